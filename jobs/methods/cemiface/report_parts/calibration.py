"""The report's part on calibration: what was wished and what came out, without it and with it."""

from __future__ import annotations

from typing import Any

from jobs.frame.run import Run
from jobs.methods.cemiface.calibrate.plan import NAME
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import calibration_plot


def calibration(run: Run, sets: Sets) -> Section:
    """Before: the pilot, its m taken for the wish. After: the generated images, if cosines were wished of them."""
    pilot = summary(run, NAME)
    if not pilot:
        return None
    figures = pilot.figures
    generated = summary(run, "generate")
    after: list[dict[str, Any]] = generated.figures.get("wished_cosine", []) if generated else []
    before = [{**row, "cosine": row["m"]} for row in figures["measured_cosine"]]
    return {
        "before": before,
        "after": after,
        "reachable": figures["reachable"],
        "worst": max((abs(row["mean"] - row["cosine"]) for row in after), default=None),
        "chart": calibration_plot(before, after),
    }
