"""Only its owner has access to a run folder."""
# ruff: noqa: N802

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from slurm.errors import RunError
from slurm.run_folder import RunFolder


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_F43_it_is_made_for_its_owner_only_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        RunFolder(tmp_path / "runs" / "demo").create()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "runs" / "demo").stat().st_mode) == 0o700


def test_F43_a_folder_that_others_may_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    folder.chmod(0o777)
    RunFolder(folder).create()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o2770, 0o2755, 0o3777, 0o2700, 0o2500])
def test_the_group_that_new_files_get_stays_that_of_the_folder(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    folder.chmod(mode)
    RunFolder(folder).create()
    assert folder.stat().st_mode & stat.S_ISGID
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_F43_a_symlink_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "demo").symlink_to(tmp_path / target)
    with pytest.raises(RunError, match="demo: "):
        RunFolder(tmp_path / "demo").create()


def test_a_file_in_its_place_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "demo").touch()
    with pytest.raises(RunError, match="demo: cannot be created: ") as error:
        RunFolder(tmp_path / "demo").create()
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_F47_a_folder_of_another_user_is_refused_naming_the_owner(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    os.chown(folder, 12345, -1)
    with pytest.raises(RunError, match="belongs to uid 12345"):
        RunFolder(folder).create()


def test_units_have_names_that_sort_as_they_count() -> None:
    stage = RunFolder(Path("runs/demo")).stage("generate")
    assert stage.marker(12) == Path("runs/demo/generate/done/00012.json")
    names = [stage.marker(unit).name for unit in (0, 9, 10, 99_999)]
    assert names == sorted(names)
