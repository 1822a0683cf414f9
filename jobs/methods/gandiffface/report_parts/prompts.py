"""The report's part on the prompts: how far pictures show what was asked of them."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.gandiffface.generate.plan import NAME
from jobs.report.part import Section, Sets, summary


def prompts(run: Run, sets: Sets) -> Section:
    """Correlations of asked and measured, and the share of each value; nothing for sets of an older version."""
    done = summary(run, NAME)
    if not done or "correlations" not in done.figures:
        return None
    return {"correlations": done.figures["correlations"], "asked": done.figures["asked"]}
