"""The report's part on calibration: requested and measured cosines, without it and with it."""

from __future__ import annotations

from typing import Any

from jobs.frame.run import Run
from jobs.methods.cemiface.calibrate.plan import NAME
from jobs.methods.cemiface.report_parts.plots import calibration_plot
from jobs.report.part import Section, Sets, summary


def calibration(run: Run, sets: Sets) -> Section:
    """Before: the pilot, its m taken as the requested cosine. After: the images, if cosines were requested."""
    pilot = summary(run, NAME)
    if not pilot:
        return None
    figures = pilot.figures
    generated = summary(run, run.method.generate.name)
    after: list[dict[str, Any]] = generated.figures.get("wished_cosine", []) if generated else []
    before = [{**row, "cosine": row["m"]} for row in figures["measured_cosine"]]
    return {
        "before": before,
        "after": after,
        "reachable": figures["reachable"],
        "worst": max((abs(row["mean"] - row["cosine"]) for row in after), default=None),
        "chart": calibration_plot(before, after),
    }
