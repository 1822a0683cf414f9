"""Plots of the method's own trainings for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.methods.gandiffface.train_gan.plan import NAME as TRAIN_GAN
from jobs.report.measured import curve
from jobs.report.plots import GRAY, INK, ORANGE, curves_plot


def training_plots(stage: str, metrics: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Plots over training images; none for other stages, or before the first metrics."""
    if stage != TRAIN_GAN or not metrics:
        return []
    losses = {"critic": (curve(metrics, "critic_loss"), INK), "generator": (curve(metrics, "generator_loss"), ORANGE)}
    gradients = {
        "critic": (curve(metrics, "critic_gradient"), INK),
        "generator": (curve(metrics, "generator_gradient"), ORANGE),
    }
    margin = {"real score less generated score": (curve(metrics, "margin"), GRAY)}
    return [
        {"caption": "GAN: losses of critic and generator.", "svg": curves_plot(losses, what="loss")},
        {"caption": "GAN: norms of the gradients.", "svg": curves_plot(gradients, what="norm", log=True)},
        {"caption": "GAN: the critic's margin.", "svg": curves_plot(margin, what="score")},
    ]
