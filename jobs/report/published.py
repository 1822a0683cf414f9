"""The report's part that puts this run's figures beside those others published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobs.frame.run import Run
from jobs.report.part import Section, Sets, summary
from jobs.report.published_systems import BENCHMARKS, SCORES, SCORES_SOURCE, SYSTEMS


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
        "own_scores": done.figures["scores"].get("synthetic"),
        "own": _own(done.figures["verification"].get("synthetic")),
        "own_accuracies": own_accuracies(done.figures["benchmarks"]),
    }


def own_accuracies(found: Mapping[str, Mapping[str, Any]]) -> list[float | None]:
    """Of the net trained on this run's set, in percent, where the run has the benchmarks the others have; else none."""
    by_name = {_plain(name): nets["synthetic"]["accuracy"] for name, nets in found.items() if "synthetic" in nets}
    own = [by_name.get(_plain(name)) for name in BENCHMARKS]
    return [None if value is None else round(100 * value, 2) for value in own] if any(own) else []


def _plain(name: str) -> str:
    """A benchmark's name without what people write differently: cfp_fp and CFP-FP, agedb and AgeDB-30."""
    return re.sub("[^a-z0-9]", "", name.lower()).removesuffix("30")


def _own(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Accuracy of the net trained on this run's set, on the held-out people: another test than the benchmarks."""
    return {"accuracy": found["accuracy"], "people": found["people"], "pairs": found["pairs"]} if found else None
