"""Plots of the method's own parts of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from jobs.report.plots import BLUE, GRAY, INK, MUTED, ORANGE, drawing, legend, svg


def similarity_plot(measured: Mapping[float, np.ndarray], *, asked: str) -> Markup:
    """Boxes of the measured cosines (quartiles, whiskers at 5 and 95 %) at each requested value, means, the ideal.

    Args:
        asked: what the values are: m, or a cosine.
    """
    requested = sorted(measured)
    means = [float(measured[value].mean()) for value in requested]
    gap = min(np.diff(requested), default=0.5)
    with drawing(height=3.4) as (figure, axes):
        ends = [requested[0] - gap / 2, requested[-1] + gap / 2]
        axes.plot(ends, ends, color=MUTED, linestyle=(0, (4, 3)), linewidth=1, label="ideal: measured = requested")
        axes.boxplot(
            [measured[value] for value in requested],
            positions=requested,
            widths=0.5 * gap,
            whis=(5, 95),
            showfliers=False,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": ORANGE, "alpha": 0.3, "linewidth": 0},
            medianprops={"color": ORANGE, "linewidth": 1.6},
            whiskerprops={"color": ORANGE, "linewidth": 0.9},
            capprops={"linewidth": 0},
        )
        axes.plot(requested, means, color=INK, marker="o", markersize=3.5, label="mean measured")
        axes.set(xlabel=f"requested {asked}", ylabel="measured cosine", xlim=ends, xticks=requested, ylim=(-1, 1.05))
        legend(axes)
        described = ", ".join(f"{mean:.2f} at {value:g}" for value, mean in zip(requested, means, strict=True))
        return svg(figure, label=f"Box plot of measured cosine by requested {asked}. Means: {described}")


def study_plot(points: Sequence[tuple[float, float, float]], *, xlabel: str) -> Markup:
    """Accuracy over similarity, from points (similarity, accuracy, standard deviation over seeds)."""
    x, accuracies, stds = zip(*sorted(points), strict=True)
    with drawing() as (figure, axes):
        spread = stds if any(stds) else None
        axes.errorbar(x, accuracies, yerr=spread, color=BLUE, marker="o", markersize=4, capsize=3, linewidth=1.6)
        axes.set(xlabel=xlabel, ylabel="average accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
        described = ", ".join(f"{accuracy:.1%} at {at:.2f}" for at, accuracy in zip(x, accuracies, strict=True))
        return svg(figure, label=f"Curve of average accuracy over {xlabel}: {described}")


def calibration_plot(before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> Markup:
    """Measured mean cosine ("mean") by the requested one ("cosine"), without and with calibration, and the ideal."""
    with drawing() as (figure, axes):
        ends = [min(row["cosine"] for row in before), max(row["cosine"] for row in before)]
        axes.plot(ends, ends, color=MUTED, linestyle=(0, (4, 3)), linewidth=1, label="ideal")
        described = []
        for name, color, rows in (("before", GRAY, before), ("after", ORANGE, after)):
            if rows:
                requested, means = [row["cosine"] for row in rows], [row["mean"] for row in rows]
                axes.plot(requested, means, color=color, marker="o", markersize=3.5, label=name)
                values = ", ".join(f"{mean:.2f} for {value:g}" for value, mean in zip(requested, means, strict=True))
                described.append(f"{name}: {values}")
        axes.set(xlabel="requested cosine", ylabel="mean cosine")
        legend(axes)
        return svg(figure, label="Curves of measured mean cosine by requested cosine, " + "; ".join(described))
