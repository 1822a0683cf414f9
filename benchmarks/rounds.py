"""Time candidates against each other in one process: CPU seconds, interleaved, one thread, ratios with their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Candidates = dict[str, Callable[[], object]]


def run_rounds(candidates: Candidates, *, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every candidate in every round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            started = time.process_time()
            candidate()
            if number:
                seconds[name].append(time.process_time() - started)
    return seconds


def print_ratios(seconds: dict[str, list[float]], *, ours: str, work: float, unit: str) -> None:
    """Print `work / seconds` per candidate, and how many times faster ours is: median, minimum and maximum."""
    for name, values in seconds.items():
        print(f"{name:<44} {work / statistics.median(values):12.1f} {unit} per CPU second", end="")
        if name != ours:
            ratios = [theirs / mine for theirs, mine in zip(values, seconds[ours], strict=True)]
            print(f"   ours x {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", end="")
        print()
