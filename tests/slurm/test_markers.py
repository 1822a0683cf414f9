"""Markers: what counts as done, and the reason for everything that does not."""
# ruff: noqa: N802

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurm.files import Output, publish
from slurm.markers import Marker, first_difference, marked_units, read_marker, why_not_done, write_marker
from slurm.ranks.worker import Worker
from slurm.run_folder import StageFolder

FINGERPRINT = {"seed": 1, "generate": {"steps": 20, "similarity": [0.0, 1.0]}, "inputs": {"identities": "abc"}}


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    """A stage with unit 3 done."""
    folder = StageFolder(tmp_path / "generate")
    written = publish(folder.output("synthetic-00003.tar"), b"faces")
    write_marker(folder, _marker(outputs=(written,)))
    return folder


def _marker(*, outputs: tuple[Output, ...] = (), **values: Any) -> Marker:
    fields = {"unit": 3, "fingerprint": FINGERPRINT, "counts": {"generated": 2}, "images": 2, "started": 1.0}
    return Marker(outputs=outputs, ended=2.0, **(fields | values))


def test_a_marker_reads_back_as_it_was_written(stage: StageFolder) -> None:
    output = Output(name="a.tar", bytes=1, sha256="f" * 64)
    marker = _marker(
        outputs=(output,),
        worker=Worker(rank=1, host="c1", pid=12, job="7_1"),
        figures={"loss": 0.5},
        earlier_seconds=3.0,
    )
    write_marker(stage, marker)
    assert read_marker(stage, 3) == marker
    worker = {"rank": 1, "host": "c1", "pid": 12, "job": "7_1", "restarts": 0, "code": None}
    assert json.loads(stage.marker(3).read_text())["worker"] == worker
    assert marked_units(stage) == [3]


def test_done_is_a_marker_of_these_settings_with_its_outputs(stage: StageFolder) -> None:
    assert why_not_done(stage, 3, fingerprint=FINGERPRINT) is None


def test_a_unit_without_marker_is_not_done(stage: StageFolder) -> None:
    assert why_not_done(stage, 4, fingerprint=FINGERPRINT) == "not done"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"unit": 3}', b'{"outputs": 1}', b"\x00\x01"])
def test_F03_a_marker_that_is_not_whole_counts_as_none(stage: StageFolder, content: bytes) -> None:
    stage.marker(3).write_bytes(content)
    assert why_not_done(stage, 3, fingerprint=FINGERPRINT) == "not done"


def test_a_marker_of_another_format_counts_as_none(stage: StageFolder) -> None:
    value = json.loads(stage.marker(3).read_text())
    stage.marker(3).write_text(json.dumps(value | {"unknown": 1}))
    assert why_not_done(stage, 3, fingerprint=FINGERPRINT) == "not done"


def test_F04_a_missing_output_is_named(stage: StageFolder) -> None:
    stage.output("synthetic-00003.tar").unlink()
    assert why_not_done(stage, 3, fingerprint=FINGERPRINT) == "missing output: synthetic-00003.tar"


def test_a_unit_whose_worker_was_not_recorded_is_done(stage: StageFolder) -> None:
    value = json.loads(stage.marker(3).read_text())
    for worker in ({}, None, {"rank": 1}, "c1"):
        stage.marker(3).write_text(json.dumps({**value, "worker": worker}))
        assert why_not_done(stage, 3, fingerprint=FINGERPRINT) is None


@pytest.mark.parametrize("content", [b"", b"face", b"faces!"])
def test_an_output_of_another_size_is_damaged(stage: StageFolder, content: bytes) -> None:
    stage.output("synthetic-00003.tar").write_bytes(content)
    reason = why_not_done(stage, 3, fingerprint=FINGERPRINT)
    assert reason == f"damaged output: synthetic-00003.tar has {len(content)} bytes, its marker says 5"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 2}, "stale: seed 1 -> 2"),
        ({"generate": {"steps": 50, "similarity": [0.0, 1.0]}}, "stale: generate.steps 20 -> 50"),
        ({"generate": {"steps": 20}}, "stale: generate.similarity [0.0, 1.0] -> None"),
        ({"inputs": {"identities": "f" * 64}}, f"stale: inputs.identities abc -> {'f' * 12}..."),
        ({"unit": {"tar": "x"}}, "stale: unit None -> {'tar': 'x'}"),
    ],
)
def test_F06_a_stale_unit_names_the_field_that_changed(stage: StageFolder, change: dict[str, Any], reason: str) -> None:
    assert why_not_done(stage, 3, fingerprint=FINGERPRINT | change) == reason


def test_equal_fingerprints_do_not_differ_after_json() -> None:
    assert first_difference(json.loads(json.dumps(FINGERPRINT)), FINGERPRINT) is None


def test_units_of_an_older_plan_are_found_by_their_markers(stage: StageFolder) -> None:
    write_marker(stage, _marker(unit=12))
    (stage.done / "notes.json").touch()
    assert marked_units(stage) == [3, 12]
