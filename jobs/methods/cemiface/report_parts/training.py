"""Plots of the denoiser's training for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.methods.cemiface.train_diffusion.plan import NAME
from jobs.report.measured import curve
from jobs.report.plots import GRAY, INK, ORANGE, curves_plot


def training_plots(stage: str, metrics: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Plots of the loss terms over training images; none for other stages, or before the first metrics."""
    if stage != NAME or not metrics:
        return []
    losses = {"loss": (curve(metrics, "loss"), INK), "noise MSE": (curve(metrics, "mse"), GRAY)}
    match = {
        "cosine": (curve(metrics, "cosine"), ORANGE),
        "similarity term": (curve(metrics, "similarity"), INK),
        "reconstruction term": (curve(metrics, "reconstruction"), GRAY),
    }
    return [
        {
            "caption": "Denoiser: the loss of eq. 14, and its noise MSE.",
            "svg": curves_plot(losses, what="denoiser loss", log=True),
        },
        {
            "caption": "Denoiser: cosine of the predicted face to its condition, and the terms of eq. 11 and 12.",
            "svg": curves_plot(match, what="value"),
        },
    ]
