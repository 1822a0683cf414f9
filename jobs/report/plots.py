"""The report's plots as inline SVG: text stays text, colors are the page's CSS variables, equal data give equal bytes.

Drawn small (4.6 inches wide, 9 points): legible at half the width of a page and at the width of a phone.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from jobs.report.numbers import MINUS

INK, MUTED, LINE = "#1c2430", "#5f6b7a", "#d5dae1"
BLUE, ORANGE, GRAY = "#2563a8", "#c2591b", "#8791a0"  # real, synthetic, and what both are compared with
VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", BLUE: "--real", ORANGE: "--synthetic", GRAY: "--floor"}
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "figure.dpi": 72,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.major.pad": 5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_joinstyle": "round",
}

Curve = tuple[Sequence[float], Sequence[float]]


def curves_plot(curves: Mapping[str, tuple[Curve, str]], *, what: str, log: bool = False) -> Markup:
    """Named (curve, color) pairs over training images."""
    with drawing() as (figure, axes):
        for name, ((images, values), color) in curves.items():
            axes.plot(images, values, color=color, label=name)
        axes.set(xlabel="training images", ylabel=what, xlim=(0, None))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 14k, 5M
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.minorticks_off()
        legend(axes)
        ends = ", ".join(f"{name} ends at {curve[1][-1]:.3g}" for name, (curve, _) in curves.items())
        return svg(figure, label=f"Curves of {what} over training images: {ends}")


def accuracy_plot(models: Sequence[tuple[str, float, float, str]]) -> Markup:
    """Bars of (name, accuracy, standard deviation, color), with the deviation as whiskers."""
    names, accuracies, stds, colors = zip(*models, strict=True)
    rows = range(len(models))
    with drawing(height=0.7 + 0.55 * len(models)) as (figure, axes):
        axes.barh(rows, accuracies, height=0.55, color=colors, alpha=0.85)
        axes.errorbar(accuracies, rows, xerr=stds, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlim=(0.4, 1.0), yticks=rows, yticklabels=names, xlabel="accuracy (dashed: guessing)")
        axes.tick_params(axis="y", labelcolor=INK)
        axes.xaxis.set_major_formatter(percent_tick)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        described = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy, *_ in models)
        return svg(figure, label=f"Bar plot of verification accuracy: {described}")


def roc_plot(curves: Mapping[str, tuple[Curve, str]], *, pairs: int) -> Markup:
    """Named ((far, tar), color) pairs; false accept rates on a log axis from one pair in `pairs` (non-mated)."""
    with drawing(height=3.2) as (figure, axes):
        for name, ((far, tar), color) in curves.items():
            first = max(0, int(np.searchsorted(far, 1 / pairs)) - 1)  # the last point left of the axis
            axes.plot(np.maximum(far, 1 / pairs)[first:], tar[first:], color=color, label=name, drawstyle="steps-post")
        axes.set(xscale="log", xlim=(1 / pairs, 1), ylim=(0, 1.02))
        axes.set(xlabel="false accept rate (FAR)", ylabel="true accept rate (TAR)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(percent_tick)
        axes.minorticks_off()
        legend(axes)
        return svg(figure, label="ROC curves: " + ", ".join(curves))


def score_plot(
    bins: Sequence[float], *, mated: Sequence[float], non_mated: Sequence[float], color: str, top: float
) -> Markup:
    """Histograms of mated and non-mated cosines, each as shares of its pairs; `top` is the axis' end."""
    with drawing() as (figure, axes):
        for share, name, shade in ((non_mated, "non-mated", GRAY), (mated, "mated", color)):
            axes.stairs(share, bins, fill=True, color=shade, alpha=0.35, linewidth=0)
            axes.stairs(share, bins, color=shade, linewidth=1.2, label=name)
        axes.set(xlabel="cosine of a pair", ylabel="share of pairs", xlim=(-1, 1), ylim=(0, top))
        axes.set_xticks((-1, -0.5, 0, 0.5, 1))
        axes.yaxis.set_major_formatter(percent_tick)
        legend(axes)
        return svg(figure, label="Histogram of mated and non-mated cosines")


def dropped_plot(rates: Mapping[str, float], *, key: str) -> Markup:
    """Bars of the dropped fraction by the values that were asked for under a key."""
    with drawing(height=2.6) as (figure, axes):
        bars = axes.bar(
            [value.replace("-", MINUS) if _is_number(value) else value for value in rates],
            list(rates.values()),
            width=0.55,
            color=ORANGE,
            alpha=0.85,
        )
        axes.bar_label(bars, [f"{rate:.0%}" for rate in rates.values()], padding=2, fontsize=8, color=INK)
        axes.set(xlabel=key, ylabel="dropped", ylim=(0, 1.1), yticks=(0, 0.25, 0.5, 0.75, 1))
        axes.yaxis.set_major_formatter(percent_tick)
        axes.grid(visible=False, axis="x")
        described = ", ".join(f"{rate:.0%} at {key} = {value}" for value, rate in rates.items())
        return svg(figure, label=f"Bar plot of the dropped fraction by {key}: {described}")


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdecimal()


def legend(axes: Axes) -> None:
    """A legend above the plot, where it covers no data."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, borderpad=0, handlelength=1.4)


def percent_tick(value: float, _: float = 0) -> str:
    """A fraction on an axis, in percent."""
    return f"{100 * value:g} %"


@contextmanager
def drawing(*, height: float = 2.9) -> Iterator[tuple[Figure, Axes]]:
    """A figure of one plot, `height` inches high, in the page's style."""
    with style.context(("default", SETTINGS)):  # not of the user's own matplotlibrc
        figure = Figure(figsize=(4.6, height), layout="constrained")
        yield figure, figure.subplots()


def svg(figure: Figure, *, label: str) -> Markup:
    """The bare <svg> element: no XML prolog, metadata, fixed size or numbered ids, which would repeat on the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_[0-9]+"', "", text)
    text = re.sub(r' (?:xmlns(?::\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[0-9.]+pt"', r"\1", text, count=2)
    own = hashlib.sha256(text.encode()).hexdigest()[:8]  # clip paths and markers of two plots may be the same
    text = re.sub(r'( id="|#)([mp][0-9a-f]{10})\b', rf"\g<1>{own}\g<2>", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1))  # noqa: S704 (ours)
