"""Metrics of a training as a killed writer may leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.frame.metrics_file import read_metrics
from jobs.training.metrics import Metrics

WHOLE = '{"images": 16, "loss": 2.5}\n{"images": 32, "loss": 1.25}\n'


@pytest.mark.parametrize("part", ["", "{", '{"images": 48, "loss": 0.', '{"images": 48', "4", "\0\0\0"])
def test_a_half_written_last_line_is_left_out(tmp_path: Path, part: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(WHOLE + part)
    assert read_metrics(path) == [{"images": 16, "loss": 2.5}, {"images": 32, "loss": 1.25}]


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("part", ["", '{"images": 48, "lo'])
def test_a_resumed_training_keeps_the_lines_up_to_its_checkpoint(tmp_path: Path, part: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(WHOLE + part)
    Metrics(path, images=32).write({"images": 48, "loss": 1.0})
    assert path.read_text() == WHOLE + '{"images": 48, "loss": 1.0}\n'
    Metrics(path, images=16)
    assert path.read_text() == WHOLE.splitlines(keepends=True)[0]
