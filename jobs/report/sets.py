"""The report's parts on benchmarks, on the sets as a whole, and on nets trained on sets and parts of them."""

from __future__ import annotations

from typing import Any

from jobs.frame.products import EVALUATE
from jobs.frame.run import Run
from jobs.report.measured import COLORS, model_name
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import BLUE, ORANGE, accuracy_plot
from jobs.report.published_systems import METRICS, METRICS_SOURCE


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
    return {
        "rows": rows,
        "benchmarks": list(rows[0]["accuracy"]),
        "seeds": rows[0]["seeds"],
        "chart": accuracy_plot(points),
    }
