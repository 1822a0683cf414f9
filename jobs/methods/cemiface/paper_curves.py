"""Accuracy by similarity over the nets of a study, as a table and a plot beside the paper's curve."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.cemiface.study_groups.plan import NAME as GROUPS
from jobs.methods.cemiface.study_m.plan import NAME as BY_M
from jobs.methods.cemiface.study_m.plan import PREFIX, group_of
from jobs.stages.shared.studies.nets import publish_files, rows_of
from jobs.stages.shared.studies.study import Study
from jobs.stages.shared.studies.tables import GroupRows, gap_text, markdown_line, percent, seeds_text
from slurm.markers import Marker

Curve = list[tuple[float, float]]  # similarity or m, and accuracy averaged over the five benchmarks, as a fraction

# Table 1, CASIA-WebFace in five groups of 100,000 images: similarity to the center, from easy to hard.
PAPER_GROUPS: Curve = [(0.85, 0.8948), (0.81, 0.9101), (0.76, 0.9178), (0.70, 0.9155), (0.53, 0.8236)]

# Table 11, 10,000 identities of 10 images at each m; without the row of 0.8, which repeats that of -1 in every column.
PAPER_M: Curve = [
    (1.0, 0.8413), (0.9, 0.8460), (0.7, 0.8511), (0.6, 0.8598), (0.5, 0.8732), (0.4, 0.8734), (0.3, 0.8735),
    (0.2, 0.8877), (0.1, 0.8937), (0.0, 0.8957), (-0.1, 0.8771), (-0.2, 0.8318), (-0.3, 0.7927), (-0.4, 0.7479),
    (-0.5, 0.6940), (-0.6, 0.6878), (-0.7, 0.6804), (-0.8, 0.6694), (-0.9, 0.6913), (-1.0, 0.7125),
]  # fmt: skip

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
BLUE, GRAY = "#2563a8", "#8791a0"


def finished_study(run: Run, markers: Sequence[Marker], *, name: str, groups: Sequence[str], study: Study) -> Finish:
    """Publish the table and the plot of a finished study; the figures are its rows."""
    rows = rows_of(run, markers, name=name, groups=groups, study=study, to_best=True)
    paper = paper_curve(name, rows)
    files = {"table.md": table(rows, paper=paper, name=name).encode(), "curve.svg": plot(rows, paper=paper, name=name)}
    return Finish(figures={"groups": rows}, outputs=publish_files(run, files, name=name))


def paper_curve(name: str, rows: GroupRows) -> list[tuple[float, float] | None]:
    """The paper's point for each row, None where it has none: by group, or by m."""
    if name == GROUPS:
        return list(PAPER_GROUPS) if len(rows) == len(PAPER_GROUPS) else [None] * len(rows)
    known = {group_of(m): (m, accuracy) for m, accuracy in PAPER_M}
    return [known.get(row["group"]) for row in rows]


def position(row: Mapping[str, Any]) -> float:
    """The position on the paper's axis: the requested m of generated faces, the similarity of a group."""
    name: str = row["group"]
    return float(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else row["similarity"]


def table(rows: GroupRows, *, paper: Sequence[tuple[float, float] | None], name: str) -> str:
    """A Markdown table, percent, mean and standard deviation over seeds; the paper's columns at the right."""
    benchmarks = list(rows[0]["accuracy"])
    axis = "paper: m" if name == BY_M else "paper: similarity"
    head = [
        "group",
        "images",
        "identities",
        "similarity",
        *benchmarks,
        "average",
        "gap to the best",
        axis,
        "paper: average",
    ]
    lines = [
        f"Verification accuracy in percent, {seeds_text(rows)}. The last checkpoint of every net. Gaps are in points,",
        "to the best group, with 95 % intervals over people and seeds. The paper's numbers are of other data, another",
        "net and five other benchmarks: compare the shape, not the height.",
        "",
        markdown_line(head),
        markdown_line(["---"] * len(head)),
    ]
    for row, point in zip(rows, paper, strict=True):
        lines.append(
            markdown_line(
                [
                    row["group"],
                    str(row["images"]),
                    str(row["identities"]),
                    f"{row['similarity']:.3f} +- {row['similarity_std']:.3f}",
                    *(percent(row["accuracy"][benchmark]) for benchmark in benchmarks),
                    percent(row["average"]),
                    gap_text(row["gap"]),
                    *([f"{point[0]:g}", f"{100 * point[1]:.2f}"] if point else ["", ""]),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def plot(rows: GroupRows, *, paper: Sequence[tuple[float, float] | None], name: str) -> bytes:
    """An SVG: this run over measured similarity (and over m), the paper beside it, each on its own scale."""
    by_m = name == BY_M
    with style.context(("default", STYLE | {"svg.hashsalt": name})):
        figure = Figure(figsize=(9.6 if by_m else 6.8, 3.2), layout="constrained")
        panels = figure.subplots(1, 3 if by_m else 2, squeeze=False)[0]
        _this_run(panels[0], rows, x=[row["similarity"] for row in rows], label="measured similarity")
        if by_m:
            _this_run(panels[1], rows, x=[position(row) for row in rows], label="requested m")
        points = sorted(PAPER_M if by_m else PAPER_GROUPS)
        panels[-1].plot([x for x, _ in points], [100 * y for _, y in points], color=GRAY, marker="o", markersize=3)
        panels[-1].set(
            title="the paper, table 11" if by_m else "the paper, table 1",
            xlabel="requested m" if by_m else "similarity to center",
            ylabel="average accuracy, %",
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _this_run(axes: Axes, rows: GroupRows, *, x: Sequence[float], label: str) -> None:
    means = [100 * row["average"]["mean"] for row in rows]
    spreads = [100 * (row["average"]["std"] or 0) for row in rows]
    axes.errorbar(x, means, yerr=spreads, color=BLUE, marker="o", markersize=4, capsize=3, linewidth=1.4)
    for at, row in zip(x, rows, strict=True):
        values = [100 * value for value in row["average"]["values"]]
        axes.plot([at] * len(values), values, color=BLUE, linestyle="", marker=".", markersize=3, alpha=0.5)
    seeds = rows[0]["seeds"]
    axes.set(title=f"this run, {seeds} seed{'s' if seeds > 1 else ''}", xlabel=label, ylabel="average accuracy, %")
