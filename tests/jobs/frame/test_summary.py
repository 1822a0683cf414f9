"""Summaries of finished stages: what is read back, and what certifies nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.run import Run
from jobs.frame.summary import Summary, finish_if_last, read_summary
from slurm.files import Output
from slurm.run_folder import StageFolder

SUMMARY = Summary(
    stage="generate",
    units=2,
    images_in=8,
    images_out=8,
    counts={"generated": 8},
    figures={"cosine": 0.5},
    wall_seconds=4.0,
    images_per_second=2.0,
    started=1.0,
    ended=5.0,
    outputs=(Output(name="a.tar", bytes=3, sha256="0" * 64),),
    outcome="1" * 64,
    fingerprint={"format": 2},
)


def _written(folder: Path, value: Any) -> StageFolder:
    stage = StageFolder(folder)
    stage.summary.write_text(json.dumps(value))
    return stage


def test_a_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_summary(_written(tmp_path, asdict(SUMMARY))) == SUMMARY


@pytest.mark.parametrize("key", [field.name for field in fields(Summary)])
def test_a_summary_with_a_missing_key_certifies_nothing(tmp_path: Path, key: str) -> None:
    value = asdict(SUMMARY)
    del value[key]
    assert read_summary(_written(tmp_path, value)) is None


@pytest.mark.parametrize("value", [None, [], "done", {}])
def test_a_file_that_is_no_summary_certifies_nothing(tmp_path: Path, value: Any) -> None:
    assert read_summary(_written(tmp_path, value)) is None


def test_a_missing_or_incomplete_file_certifies_nothing(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path)
    assert read_summary(stage) is None
    stage.summary.write_text(json.dumps(asdict(SUMMARY))[:-20])
    assert read_summary(stage) is None


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    assert read_summary(_written(tmp_path, {**asdict(SUMMARY), "added_later": 1})) == SUMMARY


def test_a_stage_without_its_summary_is_finished_again_with_the_same_content(copied: Run) -> None:
    stage = copied.stages["generate"]
    folder = copied.stage_folder("generate")
    before = folder.summary.read_bytes()
    folder.summary.unlink()
    assert finish_if_last(copied, stage)
    assert folder.summary.read_bytes() == before


def test_a_stage_is_not_finished_while_a_unit_has_no_marker(copied: Run) -> None:
    folder = copied.stage_folder("generate")
    folder.summary.unlink()
    folder.marker(1).unlink()
    assert not finish_if_last(copied, copied.stages["generate"])
    assert not folder.summary.exists()
