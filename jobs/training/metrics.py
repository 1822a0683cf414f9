"""TODO-DOC"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from slurm.files import publish


class Metrics:
    """`metrics.jsonl`: one JSON object per line. Lines past the resumed checkpoint are dropped, never doubled."""

    def __init__(self, path: Path, *, images: int) -> None:
        kept = [line for line in _lines(path) if json.loads(line)["images"] <= images]
        publish(path, "".join(line + "\n" for line in kept).encode(), replace=True)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 (lives as long as the training)

    def write(self, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps(values) + "\n")


def _lines(path: Path) -> Iterable[str]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [line for line in lines if line.endswith("}")]  # a killed writer may leave half a line
