"""Sharding that is killed or runs out of space at any moment: nothing half, nothing left, the same bytes in the end."""
# ruff: noqa: N802

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shards.exports.check import check
from shards.tars.manifest import read_manifest
from shards.tars.reader import read_tar
from slurm.errors import RunError
from slurm.files import sha256_of
from slurm.markers import read_marker
from slurm.partial_files import sweep
from slurm.run_folder import RunFolder

from ...shards.pictures import encoded, jpeg, picture
from .sharding import planned, work

IMAGES, PER_TAR, KILLS = 240, 12, 50
RECORDS_OF_A_LAUNCH = {"summary.json"}  # holds times


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "faces"
    for number in range(IMAGES):
        person = root / f"person-{number // 8:03d}"
        person.mkdir(parents=True, exist_ok=True)
        data = encoded(picture(number), "PNG") if number % 7 == 0 else jpeg(number, size=112)
        (person / f"{number % 8}.jpg").write_bytes(b"" if number == 100 else data)
    return root


def in_child(task: Callable[[], object]) -> int:
    """Run a task in a forked process of its own; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        task()
        os._exit(0)
    except BaseException:
        os._exit(1)


def one_launch(folder: Path, faces: Path) -> None:
    """What a launch and its rank do: plan, sweep what the dead left, work."""
    run = planned(folder, faces, image_size=112, resize="center", shard_images=PER_TAR, max_bad_fraction=0.2)
    sweep(run.folder.root)
    work(run)


def made(folder: Path) -> dict[str, str]:
    """Everything the stage has made, by content."""
    root = folder / "runs" / "sharding" / "shard"
    files = (path for pattern in ("*.*", "lists/*") for path in root.glob(pattern) if path.is_file())
    return {path.name: sha256_of(path) for path in files if path.name not in RECORDS_OF_A_LAUNCH}


def assert_nothing_half(folder: Path) -> None:
    """Whatever has its final name is whole, and every marker certifies what is there."""
    stage = RunFolder(folder / "runs" / "sharding").stage("shard")
    root = stage.root
    for tar in root.glob("*.tar"):
        assert list(read_tar(tar))
    for path in root.glob("done/*.json"):
        marker = read_marker(stage, int(path.stem))
        assert marker is not None
        assert all(sha256_of(root / output.name) == output.sha256 for output in marker.outputs)


def counted(task: Callable[[], object], *, strike_at: int = 0) -> int:
    """Run a task and count its function calls; the process is killed at the one of that number, returns them else.

    Moments are told by calls, not by a clock, so that they are spread over the work on machines of any speed.
    """
    calls = 0

    def count(*event: object) -> None:
        nonlocal calls
        calls += 1
        if calls == strike_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    task()
    sys.setprofile(None)
    return calls


@pytest.mark.long
def test_F01_F02_F03_fifty_kills_at_random_moments_change_nothing(tmp_path: Path, faces: Path) -> None:
    draw = random.Random(0)
    (tmp_path / "undisturbed").mkdir()
    told = tmp_path / "calls.txt"
    whole = in_child(lambda: told.write_text(str(counted(lambda: one_launch(tmp_path / "undisturbed", faces)))))
    _, status = os.waitpid(whole, 0)
    assert status == 0
    expected, kills, tries = made(tmp_path / "undisturbed"), 0, 0
    assert len(expected) == 2 * IMAGES // PER_TAR + 2 + 1 + IMAGES // PER_TAR + 1
    while kills < KILLS:
        folder = tmp_path / f"disturbed-{tries}"
        folder.mkdir()
        tries += 1
        while True:
            moment = draw.randrange(1, int(told.read_text()))
            launch = in_child(lambda f=folder, m=moment: counted(lambda: one_launch(f, faces), strike_at=m))  # type: ignore[misc]
            _, status = os.waitpid(launch, 0)
            assert_nothing_half(folder)
            if status == 0:
                break
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            kills += 1
        assert made(folder) == expected
        assert list(folder.rglob("*.part")) == []
        root = folder / "runs" / "sharding" / "shard"
        manifest = read_manifest(root / "manifest.json")
        assert [line for line in check(root, manifest) if ".tar" in line] == []
        assert manifest.totals.samples == IMAGES - 1


def full_from(name: str, *, bytes_left: int) -> None:
    """From the moment a file of that name is opened for writing, no file of this process grows beyond `bytes_left`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write fails, as it does on a full disk

    def limit(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[1], str) and "x" in arguments[1] and name in str(arguments[0]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, resource.RLIM_INFINITY))

    sys.addaudithook(limit)


STAGES_OF_A_WRITE = [
    "lists/.real-00000.tsv",
    "lists/.skipped.tsv",
    "shard/.plan.json",
    "shard/.real-00000.tar",
    "shard/.real-00001.tar",
    "shard/.real-00000.index.npz",
    "done/.00001.json",
    "shard/.manifest.json",
    "shard/.summary.json",
]


@pytest.mark.parametrize("bytes_left", [0, 10])
@pytest.mark.parametrize("name", STAGES_OF_A_WRITE)
def test_F27_no_space_at_any_stage_of_a_write_names_the_path_and_leaves_nothing_half(
    tmp_path: Path, name: str, bytes_left: int
) -> None:
    source = tmp_path / "faces"
    for number in range(4):
        (source / f"person-{number}").mkdir(parents=True)
        (source / f"person-{number}" / "0.jpg").write_bytes(jpeg(number, size=32))
    told = tmp_path / "told.txt"

    def launch_on_a_full_disk() -> None:
        full_from(name, bytes_left=bytes_left)
        try:
            work(planned(tmp_path, source, shard_images=2))
        except RunError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            told.write_text(str(error))

    _, status = os.waitpid(in_child(launch_on_a_full_disk), 0)
    assert status == 0
    path, _, words = told.read_text().partition(": ")
    folder, _, file = name.rpartition("/.")
    assert path == str(tmp_path / "runs" / "sharding" / ("" if folder == "shard" else "shard") / folder / file)
    assert words == "could not be written: File too large; free space and run again"
    assert list(tmp_path.rglob("*.part")) == []
    assert_nothing_half(tmp_path)
    assert work(planned(tmp_path, source, shard_images=2))["counts"] == {"kept": 4}


@dataclass(frozen=True, kw_only=True)
class SmallDisk:
    """A folder with room for 200 KB, or for files of 50 KB where this process may not mount anything."""

    folder: Path
    mounted: bool

    @property
    def complaint(self) -> str:
        return "No space left on device" if self.mounted else "File too large"

    def enlarge(self) -> None:
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,size=8m", self.folder], check=True)
        else:
            _limit_files(resource.RLIM_INFINITY)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "small", folder]
    disk = SmallDisk(folder=folder, mounted=subprocess.run(mount, capture_output=True).returncode == 0)
    if not disk.mounted:
        _limit_files(50_000)
    yield disk
    if disk.mounted:
        subprocess.run(["umount", folder], check=True)
    else:
        _limit_files(resource.RLIM_INFINITY)


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_F27_a_full_disk_is_reported_and_a_rerun_needs_only_space(small_disk: SmallDisk, faces: Path) -> None:
    folder = small_disk.folder
    words = rf"disk/runs/sharding/shard/.*: could not be written: {small_disk.complaint}"
    with pytest.raises(RunError, match=words):
        one_launch(folder, faces)
    assert list(folder.rglob("*.part")) == []
    assert_nothing_half(folder)
    small_disk.enlarge()
    one_launch(folder, faces)
    shards = folder / "runs" / "sharding" / "shard"
    assert [line for line in check(shards, read_manifest(shards / "manifest.json")) if ".tar" in line] == []
