"""The tables of the studies as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GroupRows = list[dict[str, Any]]  # figures of a study's groups, JSON-ready


def seeds_text(rows: GroupRows) -> str:
    """How many seeds there are, and what the table shows of them."""
    seeds = rows[0]["seeds"]
    return f"{seeds} seeds: mean and standard deviation" if seeds > 1 else "one seed: no spread is known"


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def percent(found: Mapping[str, Any]) -> str:
    """A mean with its standard deviation, in percent; of differences, in percentage points."""
    mean = f"{100 * found['mean']:.2f}"
    return mean if found["std"] is None else f"{mean} +- {100 * found['std']:.2f}"
