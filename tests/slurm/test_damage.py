"""Small files that were cut or overwritten are read as absent, never by half, wherever the damage is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm.checkpoints import COMPLETE, Checkpoints, newest_checkpoint
from slurm.files import Output, digest, publish_json, read_json
from slurm.markers import Marker, Sizes, marked_units, missing_output, read_marker, why_not_done, write_marker
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.heartbeats import Heartbeat, Since, read_heartbeat, read_heartbeats
from slurm.ranks.worker import Worker
from slurm.run_folder import StageFolder
from slurm.submission.job_record import JobRecord, read_job_record, write_job_record
from slurm.submission.slurm_job import SlurmJob

WORKER = Worker(rank=0, host="c1", pid=12, job="13_7", restarts=2, code="0123456789ab")

MARKER = Marker(
    unit=0,
    fingerprint={"seed": 1, "inputs": {"tar": "ab"}},
    outputs=(Output(name="a.tar", bytes=7, sha256="0" * 64),),
    counts={"generated": 2},
    images=2,
    started=1.0,
    ended=2.0,
    worker=WORKER,
    figures={"loss": 0.25},
)

HEARTBEAT = Heartbeat(
    worker=WORKER,
    state="stopped",
    time=30.0,
    images=9,
    unit=4,
    since=Since(images=2, time=20.0),
    attempts={"lost": 1},
    nodes=("c1", "c2"),
    last_saved="unit 3",
)

RECORD = JobRecord(
    ranks=3, submitted=1.5, jobs=(SlurmJob(kind="array", first_rank=0, ranks=3, ranks_per_task=2, job="7"),)
)


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "generate")


def _write_heartbeat(stage: StageFolder, heartbeat: Heartbeat) -> None:
    publish_json(stage.heartbeat(0), heartbeat.as_json())


KINDS: dict[str, tuple[Callable[[StageFolder], Path], Callable[[StageFolder], None], Callable[[StageFolder], Any]]] = {
    "marker": (lambda s: s.marker(0), lambda s: write_marker(s, MARKER), lambda s: read_marker(s, 0)),
    "heartbeat": (lambda s: s.heartbeat(0), lambda s: _write_heartbeat(s, HEARTBEAT), lambda s: read_heartbeat(s, 0)),
    "job record": (lambda s: s.job_record, lambda s: write_job_record(s, RECORD), read_job_record),
}

WRITTEN = {"marker": MARKER, "heartbeat": HEARTBEAT, "job record": RECORD}

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_a_file_cut_anywhere_is_absent_unless_only_its_last_line_feed_is_missing(stage: StageFolder, kind: str) -> None:
    path_of, write, read = KINDS[kind]
    stage.root.mkdir()
    write(stage)
    path = path_of(stage)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:size])
        assert read(stage) is None
    for data in (whole[:-1], whole):
        path.write_bytes(data)
        assert read(stage) == WRITTEN[kind]


@kinds
@pytest.mark.parametrize("data", [b"\xff\xfe{}", b"[" * 100_000, b"null", b"7", b'"text"', b"[]", b"{}", b"[{}]"])
def test_a_file_of_something_else_is_absent(stage: StageFolder, kind: str, data: bytes) -> None:
    path_of, write, read = KINDS[kind]
    stage.root.mkdir()
    write(stage)
    path_of(stage).write_bytes(data)
    assert read(stage) is None


@kinds
def test_a_folder_in_the_place_of_the_file_is_absent(stage: StageFolder, kind: str) -> None:
    path_of, _, read = KINDS[kind]
    path_of(stage).mkdir(parents=True)
    assert read(stage) is None


@kinds
@pytest.mark.parametrize("seed", range(30))
def test_a_block_of_zeros_in_a_file_is_absent(stage: StageFolder, kind: str, seed: int) -> None:
    """A crash of the machine may leave a block of a file unwritten."""
    path_of, write, read = KINDS[kind]
    stage.root.mkdir()
    write(stage)
    data, draw = bytearray(path_of(stage).read_bytes()), random.Random(seed)
    start = draw.randrange(len(data))
    size = draw.randint(1, len(data) - start)
    data[start : start + size] = bytes(size)
    path_of(stage).write_bytes(data)
    assert read(stage) is None


@pytest.mark.parametrize("field", ["unit", "fingerprint", "outputs", "counts", "images", "started", "ended"])
def test_a_marker_without_one_of_its_fields_is_absent(stage: StageFolder, field: str) -> None:
    write_marker(stage, MARKER)
    value = json.loads(stage.marker(0).read_text())
    del value[field]
    stage.marker(0).write_text(json.dumps(value))
    assert why_not_done(stage, 0, fingerprint=MARKER.fingerprint) == "not done"


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": None},
        {"fingerprint": "ab"},
        {"fingerprint": ["seed"]},
        {"outputs": [{"name": 5, "bytes": 7, "sha256": "0"}]},
        {"outputs": [{"name": "a.tar"}]},
        {"outputs": ["a.tar"]},
        {"outputs": None},
    ],
)
def test_a_marker_with_a_value_of_another_type_is_absent(stage: StageFolder, change: dict[str, Any]) -> None:
    write_marker(stage, MARKER)
    value = json.loads(stage.marker(0).read_text())
    stage.marker(0).write_text(json.dumps(value | change))
    assert why_not_done(stage, 0, fingerprint=MARKER.fingerprint) == "not done"


@pytest.mark.parametrize(
    "change",
    [{"rank": "first"}, {"state": "asleep"}, {"images": None}, {"attempts": 1}, {"since": 3.0}, {"nodes": "c1"}],
)
def test_a_heartbeat_with_a_value_of_another_type_is_absent(stage: StageFolder, change: dict[str, Any]) -> None:
    publish_json(stage.heartbeat(0), HEARTBEAT.as_json() | change)
    assert read_heartbeat(stage, 0) is None


def test_one_damaged_heartbeat_does_not_hide_the_others(stage: StageFolder) -> None:
    for rank in range(3):
        HeartbeatWriter(stage, worker=Worker(rank=rank, host="c1", pid=rank + 1)).update(images=rank)
    stage.heartbeat(1).write_bytes(stage.heartbeat(1).read_bytes()[:40])
    (stage.heartbeats / ".00004.json").write_bytes(stage.heartbeat(0).read_bytes())
    assert [heartbeat.rank for heartbeat in read_heartbeats(stage)] == [0, 2]


def test_a_rank_with_a_damaged_heartbeat_starts_counting_from_zero(stage: StageFolder) -> None:
    publish_json(stage.heartbeat(0), HEARTBEAT.as_json())
    stage.heartbeat(0).write_bytes(b"{")
    HeartbeatWriter(stage, worker=WORKER).update(images=1)
    found = read_heartbeat(stage, 0)
    assert found is not None
    assert (found.attempts, found.nodes, found.last_saved) == ({}, (), None)


def test_a_stage_that_never_ran_has_no_markers_no_heartbeats_and_no_record(stage: StageFolder) -> None:
    assert (marked_units(stage), read_heartbeats(stage), read_job_record(stage)) == ([], [], None)
    assert newest_checkpoint(stage) == ""


def test_the_newest_checkpoint_of_a_stage_is_named_whole_or_not(stage: StageFolder) -> None:
    checkpoints = Checkpoints(stage.checkpoints, key="a")
    for images in (9, 10_000, 200):
        checkpoints.save(images, files={"state": b"s"})
    assert newest_checkpoint(stage) == "step-000000010000"
    (stage.checkpoints / "step-000000010000" / COMPLETE).unlink()
    assert newest_checkpoint(stage) == "step-000000010000"


def test_a_checkpoint_whose_complete_file_is_cut_anywhere_is_not_resumed(tmp_path: Path) -> None:
    for size in range(0, 10_000, 17):
        checkpoints = Checkpoints(tmp_path / f"cut-{size}", key={"rate": 0.1})
        for images in (100, 200):
            checkpoints.save(images, files={"state": b"weights %d" % images})
        complete = checkpoints.at(200).folder / COMPLETE
        whole = complete.read_bytes()
        if size >= len(whole) - 1:
            break
        complete.write_bytes(whole[:size])
        newest = checkpoints.newest()
        assert newest is not None
        assert (newest.images, newest.read("state")) == (100, b"weights 100")


def test_a_training_shortened_below_all_its_checkpoints_starts_from_the_beginning(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, key="a")
    for images in (100, 200):
        checkpoints.save(images, files={"state": b"s"})
    assert checkpoints.newest(at_most=99) is None
    assert sorted(path.name[:24] for path in tmp_path.iterdir()) == ["superseded-step-00000000"] * 2


@pytest.mark.parametrize("keep", [2, 3, 5])
def test_as_many_checkpoints_stay_as_were_asked_for_and_always_the_newest(tmp_path: Path, keep: int) -> None:
    checkpoints = Checkpoints(tmp_path, key="a", keep=keep)
    for images in range(10, 90, 10):
        checkpoints.save(images, files={"state": b"%d" % images})
        newest = checkpoints.newest()
        assert newest is not None
        assert newest.read("state") == b"%d" % images
    assert sorted(int(path.name[5:]) for path in tmp_path.iterdir()) == list(range(80, 80 - 10 * keep, -10))[::-1]


def test_a_save_that_fails_leaves_no_folder_behind(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, key="a")
    with pytest.raises(TypeError):
        checkpoints.save(100, files={"state": b"s", "clock": "not bytes"})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []
    assert checkpoints.newest() is None


def test_sizes_are_the_same_listed_at_once_or_looked_up_one_by_one(stage: StageFolder) -> None:
    files = {"a.tar": 3, "sub/b.tar": 4, "sub/deep/c.tar": 0}
    for name, size in files.items():
        stage.output(name).parent.mkdir(parents=True, exist_ok=True)
        stage.output(name).write_bytes(bytes(size))
    listed, looked_up = Sizes(stage, listed=True), Sizes(stage)
    for name, size in {**files, "none.tar": None, "sub/none.tar": None, "nowhere/x.tar": None}.items():
        assert listed.of(name) == looked_up.of(name) == size


def test_an_output_written_after_the_folder_was_listed_is_found(stage: StageFolder) -> None:
    stage.root.mkdir()
    sizes = Sizes(stage, listed=True)
    assert sizes.of("late.tar") is None
    stage.output("late.tar").write_bytes(b"late")
    assert sizes.of("late.tar") == 4


def test_the_first_output_that_is_wrong_is_named(stage: StageFolder) -> None:
    stage.root.mkdir()
    outputs = tuple(Output(name=f"{name}.tar", bytes=2, sha256="0") for name in "abc")
    for name, data in (("a", b"xx"), ("b", b"x"), ("c", b"")):
        stage.output(f"{name}.tar").write_bytes(data)
    assert missing_output(outputs, sizes=Sizes(stage)) == "damaged output: b.tar has 1 bytes, its marker says 2"
    assert missing_output(outputs[:1], sizes=Sizes(stage)) is None
    assert missing_output((), sizes=Sizes(stage)) is None


def test_units_are_counted_by_markers_not_by_other_files(stage: StageFolder) -> None:
    stage.done.mkdir(parents=True)
    for name in ("00007.json", "123456.json", "00008.json.part", ".00009@c1-1-00000000.part", "x.json", "-1.json"):
        (stage.done / name).touch()
    assert marked_units(stage) == [7, 123_456]


@pytest.mark.parametrize("value", [{"b": 1, "a": [1, 2.5, None]}, {"é": "ü"}, [], "x", None, 0])
def test_a_json_value_comes_back_as_written_and_equal_values_have_equal_digests(tmp_path: Path, value: object) -> None:
    publish_json(tmp_path / "v.json", value)
    found = read_json(tmp_path / "v.json")
    assert found == value
    assert digest(found) == digest(value)


def test_the_digest_depends_on_every_value_but_not_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    values: list[object] = [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1}, [1, 2], [2, 1], "1", 1, None, {}, []]
    assert len({digest(value) for value in values}) == len(values)
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(float("inf"))
