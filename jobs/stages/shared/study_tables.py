"""TODO-DOC"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = list[dict[str, Any]]


def seeds_text(rows: Rows) -> str:
    seeds = rows[0]["seeds"]
    return f"{seeds} seeds: mean and standard deviation" if seeds > 1 else "one seed: no spread is known"


def markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def percent(found: Mapping[str, Any]) -> str:
    """A spread in percent, or in points of it."""
    mean = f"{100 * found['mean']:.2f}"
    return mean if found["std"] is None else f"{mean} +- {100 * found['std']:.2f}"
