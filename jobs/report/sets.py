"""The report's parts on benchmarks, on the sets as a whole, and on nets trained on sets and parts of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.frame.products import EVALUATE, SYNTHETIC
from jobs.frame.run import Run
from jobs.report.measured import COLORS, model_name
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import BLUE, ORANGE, accuracy_plot
from jobs.report.published_systems import METRICS, METRICS_SOURCE
from jobs.report.set_facts import facts_of_set


def benchmarks(run: Run, sets: Sets) -> Section:
    """Accuracy of every net on every converted benchmark, and the average over them."""
    done = summary(run, EVALUATE)
    found: dict[str, dict[str, Any]] = done.figures["benchmarks"] if done else {}
    if not found or not done:
        return None
    models = [model for model in COLORS if model in next(iter(found.values()))]
    return {
        "names": list(found),
        "rows": [
            {
                "name": model_name(run, model),
                "cells": [found[name][model] for name in found],
                "average": done.figures["average"][model],
            }
            for model in models
        ],
    }


def set_metrics(run: Run, sets: Sets) -> Section:
    """Uniqueness, consistency and diversity of each set, and the distance of the synthetic one from the real one."""
    done = summary(run, EVALUATE)
    if not done:
        return None
    figures = done.figures
    return {
        "kinds": figures["scores"],
        "frechet": figures.get("frechet_distance"),
        "inception": figures.get("frechet_distance_inception"),
        "others": METRICS,
        "source": METRICS_SOURCE,
        "wasserstein": figures.get("wasserstein_synthetic_to_real"),
    }


def comparison(run: Run, sets: Sets) -> Section:
    """Accuracy of nets trained on sets and on parts of them, and the gap of each to the first."""
    done = summary(run, "study-sets")
    if not done:
        return None
    rows = done.figures["groups"]
    colors = [BLUE, *[ORANGE] * (len(rows) - 1)]
    points = [
        (row["group"], row["average"]["mean"], row["average"]["std"] or 0.0, color)
        for row, color in zip(rows, colors, strict=True)
    ]
    facts = done.figures.get("sets", {}) | {SYNTHETIC: facts_of_set(run)}
    return {
        "rows": [{**row, "made": _made(row, facts)} for row in rows],
        "measured": any("measured" in row for row in rows),
        "benchmarks": list(rows[0]["accuracy"]),
        "seeds": rows[0]["seeds"],
        "chart": accuracy_plot(points),
    }


def _made(row: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Hours of all ranks for the synthetic sets that a net was trained on, and the share of each that leaks."""
    own = [facts[kind] for kind in row.get("sets", ()) if kind in facts]
    leaks = [one["leaked"] for one in own if one["leaked"] is not None]
    return {
        "hours": sum(one["seconds"] for one in own) / 3600 if own else None,
        "methods": [one["method"] for one in own],
        "leaked": leaks,
    }
