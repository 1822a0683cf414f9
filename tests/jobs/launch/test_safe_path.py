"""No module is imported because it lies in the current folder: by the command, by local ranks, by Slurm's ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.safe_start import safe_environment, without_current

from ...shards.pictures import jpeg
from ..commands import PROJECT

MODULES = ("numpy", "submitit", "torch", "yaml", "pydantic", "rich", "h5py", "json", "logging", "sitecustomize")
PATHS = (f":{PROJECT}", f"{PROJECT}:", f"{PROJECT}:.")
CONFIG = "name: safe\nshard: {faces: faces, image_size: 32}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A current folder with a config, two faces, and modules that must not be imported."""
    for number in range(2):
        face = tmp_path / "faces" / f"p{number}" / "0.jpg"
        face.parent.mkdir(parents=True)
        face.write_bytes(jpeg(number, size=32))
    (tmp_path / "safe.yaml").write_text(CONFIG)
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / f'ran-{name}')!r}, 'w').close()\n")
    for name in ("slurm", "shards"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(tmp_path / f'ran-{name}')!r}, 'w').close()\n")
    return tmp_path


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(
        command, cwd=folder, env=given | environment, capture_output=True, text=True, check=False, timeout=300
    )


def ran(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("ran-*"))


def test_a_local_run_imports_nothing_from_the_current_folder(folder: Path) -> None:
    done = run(folder, sys.executable, "-m", "jobs", "all", "safe.yaml", PYTHONPATH=str(PROJECT))
    assert ran(folder) == []
    assert "shard: finished" in done.stderr


def test_in_a_checkout_the_checkouts_packages_are_used_and_nothing_else_of_it(folder: Path) -> None:
    """The checkout is the current folder, and is not installed."""
    checkout = folder / "checkout"
    checkout.mkdir()
    for package in ("cemiface", "jobs", "shards", "slurm"):
        (checkout / package).symlink_to(PROJECT / package)
    for name in MODULES:
        (folder / f"{name}.py").rename(checkout / f"{name}.py")
    done = run(checkout, sys.executable, "-m", "jobs", "all", "../safe.yaml", PYTHONPATH="")
    assert ran(folder) == []
    assert "shard: finished" in done.stderr


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_entry_of_the_path_is_not_the_current_folder(folder: Path, path: str) -> None:
    (folder / "sitecustomize.py").unlink()  # python itself imports it before any of ours runs
    for name in ("slurm", "shards"):
        (folder / name / "__init__.py").unlink()
    code = "import sys; sys.argv = ['cemiface']; import jobs; import numpy, submitit, yaml; print(sys.path)"
    done = run(folder, sys.executable, "-P", "-c", code, PYTHONPATH=path)
    assert done.returncode == 0
    assert ran(folder) == []


def test_what_a_rank_starts_is_safe_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", f":{PROJECT}:{folder}:relative")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with safe_environment():
        assert os.environ["PYTHONPATH"] == f"{PROJECT}:relative"
        subprocess.run([sys.executable, "-c", "import numpy"], check=True)
    assert os.environ["PYTHONPATH"] == f":{PROJECT}:{folder}:relative"
    assert "PYTHONSAFEPATH" not in os.environ
    assert ran(folder) == []


def test_the_entries_of_the_current_folder_are_left_out_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert without_current(["", ".", str(tmp_path), str(tmp_path / "link"), "/usr", "x"]) == ["/usr", "x"]


def test_slurms_ranks_start_on_a_safe_path(folder: Path) -> None:
    code = "import sys, submitit, numpy; assert '' not in sys.path"
    done = run(folder, sys.executable, "-S", "-E", str(PROJECT / "slurm" / "start.py"), "-u", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert ran(folder) == []
