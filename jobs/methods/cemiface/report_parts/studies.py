"""The report's part on the two studies: accuracy of nets by the similarity of their training images."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.cemiface.paper_curves import PAPER_GROUPS, PAPER_M, paper_curve, position
from jobs.methods.cemiface.report_parts.plots import study_plot
from jobs.methods.cemiface.study_groups.plan import NAME as GROUPS
from jobs.methods.cemiface.study_m.plan import NAME as BY_M
from jobs.report.part import Section, Sets, summary

TITLES = {
    GROUPS: "Real faces in groups by similarity to their center",
    BY_M: "Generated faces by the requested m",
}
AXES = {GROUPS: "similarity to center", BY_M: "requested m"}


def studies(run: Run, sets: Sets) -> Section:
    """Accuracy over similarity, beside the paper's curve, of each finished study."""
    shown = []
    for name, points in ((GROUPS, PAPER_GROUPS), (BY_M, PAPER_M)):
        done = summary(run, name)
        if not done:
            continue
        rows = done.figures["groups"]
        shown.append(
            {
                "title": TITLES[name],
                "rows": list(zip(rows, paper_curve(name, rows), strict=True)),
                "benchmarks": list(rows[0]["accuracy"]),
                "seeds": rows[0]["seeds"],
                "axis": AXES[name],
                "own": study_plot(
                    [(position(row), row["average"]["mean"], row["average"]["std"] or 0.0) for row in rows],
                    xlabel=AXES[name],
                ),
                "paper": study_plot([(x, y, 0.0) for x, y in points], xlabel=AXES[name]),
            }
        )
    return {"studies": shown} if shown else None
