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


def gap_text(gap: Mapping[str, Any]) -> str:
    """A gap in percentage points with its 95 % interval, and whether it is one; nothing for the reference itself."""
    if "interval" not in gap:
        return "" if not any(gap["values"]) else percent(gap)
    low, high = (100 * bound for bound in gap["interval"])
    text = f"{100 * gap['mean']:.2f} [{low:.2f}, {high:.2f}]"
    return f"{text}, not told apart" if low <= 0 <= high else text
