"""`metrics.jsonl` of a training: one JSON object per line, its numbers by name."""

from __future__ import annotations

import json
from pathlib import Path


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The complete lines of the file, in order; none if there is no file.

    A killed writer may leave an incomplete line at the end. A line that does not parse is left out.
    """
    if not path.exists():
        return []
    return [values for line in path.read_text(errors="replace").splitlines() if (values := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, float] | None:
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return None
    return values if isinstance(values, dict) else None
