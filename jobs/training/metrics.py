"""The writer of metrics files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jobs.frame.metrics_file import read_metrics
from slurm.files import publish


class Metrics:
    """Appends to a metrics file: one JSON object per line, with the key "images".

    Opening it drops the lines after `images`, the count of the checkpoint that training resumes from: those steps
    run again.
    """

    def __init__(self, path: Path, *, images: int) -> None:
        kept = [values for values in read_metrics(path) if values["images"] <= images]
        publish(path, "".join(_line(values) for values in kept).encode(), replace=True)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 (open until the process ends)

    def write(self, values: Mapping[str, float]) -> None:
        """Append one line."""
        self._file.write(_line(values))


def _line(values: Mapping[str, float]) -> str:
    return json.dumps(values) + "\n"
