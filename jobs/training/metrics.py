"""The writer of `metrics.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jobs.frame.metrics_file import read_metrics
from slurm.files import publish


class Metrics:
    """`metrics.jsonl`: one JSON object per line. Lines past the resumed checkpoint are dropped, never doubled."""

    def __init__(self, path: Path, *, images: int) -> None:
        kept = [values for values in read_metrics(path) if values["images"] <= images]
        publish(path, "".join(_line(values) for values in kept).encode(), replace=True)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 (lives as long as the training)

    def write(self, values: Mapping[str, float]) -> None:
        self._file.write(_line(values))


def _line(values: Mapping[str, float]) -> str:
    return json.dumps(values) + "\n"
