"""The report's part on lineage: the data sets that the nets have learned from, and whether the audit covers them."""

from __future__ import annotations

from jobs.frame.products import AUDIT
from jobs.frame.run import Run
from jobs.report.part import Section, Sets, summary


def lineage(run: Run, sets: Sets) -> Section:
    """One row per data set; None while there is no synthetic set."""
    sources = run.method.lineage(run) if sets.synthetic else ()
    if not sources:
        return None
    return {"sources": sources, "audited": summary(run, AUDIT) is not None}


def not_covered(run: Run) -> list[str]:
    """The data sets that the nets have learned from and that the audit does not compare the synthetic set with."""
    return [source.name for source in run.method.lineage(run) if not source.held_against]
