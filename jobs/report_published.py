"""The report's part that puts this run's figures beside those others published."""

from __future__ import annotations

from typing import Any

from jobs.published_systems import BENCHMARKS, SCORES, SCORES_SOURCE, SYSTEMS
from jobs.report_part import Section, Sets, summary
from jobs.stage import Run


def published(run: Run, sets: Sets) -> Section:
    """Accuracies and score statistics of others, numbered sources, and what this run has to put beside them."""
    done = summary(run, "evaluate")
    if not done:
        return None
    sources = list(dict.fromkeys(system.source for system in SYSTEMS))
    return {
        "benchmarks": BENCHMARKS,
        "systems": [{"system": system, "source": sources.index(system.source) + 1} for system in SYSTEMS],
        "sources": [*sources, SCORES_SOURCE],
        "scores": SCORES,
        "own_scores": done["figures"]["scores"].get("synthetic"),
        "own": _own(done["figures"]["verification"].get("synthetic")),
    }


def _own(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Accuracy of the net trained on this run's set, on the held-out people: another test than the benchmarks."""
    return {"accuracy": found["accuracy"], "people": found["people"], "pairs": found["pairs"]} if found else None
