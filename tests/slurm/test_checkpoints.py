"""Checkpoints: the newest whole one is resumed, damaged ones are set aside, and a total loss is an error."""
# ruff: noqa: N802

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.checkpoints import COMPLETE, Checkpoints
from slurm.errors import RunError
from slurm.partial_files import sweep

KEY = {"learning_rate": 0.1}
STATE = "state.safetensors"


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """A training that has saved after 100, 200 and 300 images and keeps two."""
    made = Checkpoints(tmp_path / "checkpoints", key=KEY)
    for images in (100, 200, 300):
        _save(made, images)
    return made


def _save(checkpoints: Checkpoints, images: int) -> None:
    checkpoints.save(images, files={STATE: b"weights %d" % images, "clock.json": b"{}"})


def _steps(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def _step(checkpoints: Checkpoints, images: int) -> Path:
    return checkpoints.folder / f"step-{images:012d}"


def _truncate(folder: Path) -> None:
    os.truncate(folder / STATE, 3)


def _flip(folder: Path) -> None:
    data = bytearray((folder / STATE).read_bytes())
    data[2] ^= 1
    (folder / STATE).write_bytes(data)


def _lose_a_file(folder: Path) -> None:
    (folder / STATE).unlink()


def _lose_complete(folder: Path) -> None:
    (folder / COMPLETE).unlink()


def _cut_complete(folder: Path) -> None:
    os.truncate(folder / COMPLETE, 20)


def _empty_complete(folder: Path) -> None:
    (folder / COMPLETE).write_text("[]")


DAMAGES = (_truncate, _flip, _lose_a_file, _lose_complete, _cut_complete, _empty_complete)
damages = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))


def test_the_two_newest_are_kept_and_the_newest_is_resumed(checkpoints: Checkpoints) -> None:
    newest = checkpoints.newest()
    assert newest
    assert (newest.images, newest.read(STATE)) == (300, b"weights 300")
    assert _steps(checkpoints) == ["step-000000000200", "step-000000000300"]
    assert checkpoints.at(300) == newest


def test_a_training_without_checkpoints_begins(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nothing", key=KEY).newest() is None


def test_keeping_only_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"keep: got 1, allowed 2 or more"):
        Checkpoints(tmp_path, key=KEY, keep=1)


def test_saving_the_same_step_again_changes_nothing(checkpoints: Checkpoints) -> None:
    before = (_step(checkpoints, 300) / STATE).stat()
    _save(checkpoints, 300)
    assert (_step(checkpoints, 300) / STATE).stat() == before


@damages
def test_F33_a_damaged_newest_is_set_aside_and_the_one_before_is_used(
    checkpoints: Checkpoints, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(_step(checkpoints, 300))
    newest = checkpoints.newest()
    assert newest
    assert newest.images == 200
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "step-000000000300 is damaged" in caplog.text
    assert sum(name.startswith("damaged-") for name in _steps(checkpoints)) == 1
    _save(checkpoints, 300)  # the training gets there once more
    newest = checkpoints.newest()
    assert newest
    assert newest.images == 300


def test_F33_when_none_is_whole_the_training_stops_and_stays_stopped(checkpoints: Checkpoints) -> None:
    _flip(_step(checkpoints, 200))
    _truncate(_step(checkpoints, 300))
    for _ in range(2):
        with pytest.raises(RunError, match=r"no whole checkpoint is left .*remove the damaged-"):
            checkpoints.newest()


def test_F33_damage_of_an_older_config_does_not_stop_a_new_training(checkpoints: Checkpoints) -> None:
    _flip(_step(checkpoints, 300))
    assert checkpoints.newest()
    assert Checkpoints(checkpoints.folder, key={"learning_rate": 0.2}).newest() is None


def test_F34_a_checkpoint_that_claims_to_be_another_step_is_damaged(checkpoints: Checkpoints) -> None:
    os.rename(_step(checkpoints, 200), _step(checkpoints, 400))
    newest = checkpoints.newest()
    assert newest
    assert newest.images == 300


def test_checkpoints_of_another_training_are_set_aside_not_resumed(checkpoints: Checkpoints) -> None:
    other = Checkpoints(checkpoints.folder, key={"learning_rate": 0.2})
    assert other.newest() is None
    assert all(name.startswith("superseded-") for name in _steps(checkpoints))
    _save(other, 100)
    newest = other.newest()
    assert newest
    assert newest.images == 100


def test_a_shortened_training_resumes_from_an_earlier_checkpoint(checkpoints: Checkpoints) -> None:
    newest = checkpoints.newest(at_most=250)
    assert newest
    assert newest.images == 200
    _save(checkpoints, 250)
    newest = checkpoints.newest()
    assert newest
    assert newest.images == 250


def test_F17_a_process_killed_in_a_save_leaves_the_earlier_checkpoint_and_a_part_to_sweep(
    checkpoints: Checkpoints,
) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom slurm import checkpoints\n"
        "class Dying(dict):\n"
        "    def items(self):\n"
        "        yield 'state.safetensors', b'half'\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoints.Checkpoints(Path(sys.argv[1]), key={'learning_rate': 0.1}).save(400, files=Dying())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(checkpoints.folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [name for name in _steps(checkpoints) if name.startswith(".")]
    assert len(sweep(checkpoints.folder)) == 1
    assert _steps(checkpoints) == ["step-000000000200", "step-000000000300"]


def test_stray_parts_of_any_host_are_removed_by_the_one_who_resumes(checkpoints: Checkpoints) -> None:
    (checkpoints.folder / ".step-000000000400@elsewhere-1-00000000.part").mkdir()
    assert checkpoints.newest()
    assert _steps(checkpoints) == ["step-000000000200", "step-000000000300"]


def test_other_folders_are_no_checkpoints(checkpoints: Checkpoints) -> None:
    for name in ("step-1", "step-0000000009999", "xstep-000000009999", "latest"):
        (checkpoints.folder / name).mkdir()
    newest = checkpoints.newest()
    assert newest
    assert newest.images == 300
