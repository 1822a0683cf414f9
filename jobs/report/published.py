"""The report's part that puts this run's figures beside published ones of other systems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobs.frame.products import EVALUATE
from jobs.frame.run import Run
from jobs.report.part import Section, Sets, summary
from jobs.report.published_systems import BENCHMARKS, NOTE, SCORES, SCORES_SOURCE, SYSTEMS


def published(run: Run, sets: Sets) -> Section:
    """Published accuracies and score statistics, their numbered sources, and this run's figures to compare."""
    done = summary(run, EVALUATE)
    if not done:
        return None
    sources = list(dict.fromkeys(system.source for system in SYSTEMS))
    return {
        "benchmarks": BENCHMARKS,
        "systems": [{"system": system, "source": sources.index(system.source) + 1} for system in SYSTEMS],
        "sources": [*sources, SCORES_SOURCE],
        "note": NOTE,
        "scores": SCORES,
        "own_scores": done.figures["scores"].get("synthetic"),
        "own": _own(done.figures["verification"].get("synthetic")),
        "own_accuracies": own_accuracies(done.figures["benchmarks"]),
    }


def own_accuracies(found: Mapping[str, Mapping[str, Any]]) -> list[float | None]:
    """Percent, of the net trained on this run's set, on each of BENCHMARKS; [] where the run has none of them."""
    by_name = {_plain(name): nets["synthetic"]["accuracy"] for name, nets in found.items() if "synthetic" in nets}
    own = [by_name.get(_plain(name)) for name in BENCHMARKS]
    return [None if value is None else round(100 * value, 2) for value in own] if any(own) else []


def _plain(name: str) -> str:
    """A benchmark's name as compared: cfp_fp and CFP-FP are one, agedb and AgeDB-30 too."""
    return re.sub("[^a-z0-9]", "", name.lower()).removesuffix("30")


def _own(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Accuracy of the net trained on this run's set, on the held-out people: another test than the benchmarks."""
    return {"accuracy": found["accuracy"], "people": found["people"], "pairs": found["pairs"]} if found else None
