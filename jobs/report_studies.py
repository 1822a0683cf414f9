"""The report's parts on recognition beyond the held-out pairs: benchmarks, set metrics, the studies."""

from __future__ import annotations

from typing import Any

from jobs.published_systems import METRICS, METRICS_SOURCE
from jobs.report_part import Section, Sets, summary
from jobs.report_plots import BLUE, ORANGE, accuracy_plot, study_plot
from jobs.report_sections import COLORS, model_name
from jobs.stage import Run
from jobs.study_curves import PAPER_GROUPS, PAPER_M, paper_curve, place
from jobs.study_sets import NAME as SETS
from jobs.study_similarity import BY_M, GROUPS

TITLES = {
    GROUPS: "Real faces in groups by similarity to their center",
    BY_M: "Generated faces by the wished m",
}

AXES = {GROUPS: "similarity to center", BY_M: "wished m"}


def benchmarks(run: Run, sets: Sets) -> Section:
    """Accuracy of every net on every converted benchmark, and the average over them."""
    done = summary(run, "evaluate")
    found: dict[str, dict[str, Any]] = done["figures"]["benchmarks"] if done else {}
    if not found or not done:
        return None
    models = [model for model in COLORS if model in next(iter(found.values()))]
    return {
        "names": list(found),
        "rows": [
            {
                "name": model_name(run, model),
                "cells": [found[name][model] for name in found],
                "average": done["figures"]["average"][model],
            }
            for model in models
        ],
    }


def set_metrics(run: Run, sets: Sets) -> Section:
    """What the sets are like as a whole, and how far the synthetic one is from the real one."""
    done = summary(run, "evaluate")
    if not done:
        return None
    figures = done["figures"]
    return {
        "kinds": figures["scores"],
        "frechet": figures.get("frechet_distance"),
        "inception": figures.get("frechet_distance_inception"),
        "others": METRICS,
        "source": METRICS_SOURCE,
        "wasserstein": figures.get("wasserstein_synthetic_to_real"),
    }


def studies(run: Run, sets: Sets) -> Section:
    """Accuracy against similarity, beside the paper's curve."""
    shown = []
    for name, points in ((GROUPS, PAPER_GROUPS), (BY_M, PAPER_M)):
        done = summary(run, name)
        if not done:
            continue
        rows = done["figures"]["groups"]
        shown.append(
            {
                "title": TITLES[name],
                "rows": list(zip(rows, paper_curve(name, rows), strict=True)),
                "benchmarks": list(rows[0]["accuracy"]),
                "seeds": rows[0]["seeds"],
                "axis": AXES[name],
                "own": study_plot(
                    [(place(row), row["average"]["mean"], row["average"]["std"] or 0.0) for row in rows],
                    xlabel=AXES[name],
                ),
                "paper": study_plot([(x, y, 0.0) for x, y in points], xlabel=AXES[name]),
            }
        )
    sets_compared = _sets(run)
    return {"studies": shown, "sets": sets_compared} if shown or sets_compared else None


def _sets(run: Run) -> dict[str, Any] | None:
    """What nets learned from sets and from parts of them, and what they lack to the first."""
    done = summary(run, SETS)
    if not done:
        return None
    rows = done["figures"]["groups"]
    colors = [BLUE, *[ORANGE] * (len(rows) - 1)]
    points = [
        (row["group"], row["average"]["mean"], row["average"]["std"] or 0.0, color)
        for row, color in zip(rows, colors, strict=True)
    ]
    return {
        "rows": rows,
        "benchmarks": list(rows[0]["accuracy"]),
        "seeds": rows[0]["seeds"],
        "plot": accuracy_plot(points),
    }
