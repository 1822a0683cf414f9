"""The report's part on lineage: the data sets that the nets were trained on, and whether the audit covers them."""

from __future__ import annotations

from jobs.frame.products import AUDIT
from jobs.frame.run import Run
from jobs.frame.verdicts import shown_verdict
from jobs.report.part import Section, Sets, summary
from shards.privacy.lineage import CheckedSet
from shards.privacy.verdict import Verdict


def lineage(run: Run, sets: Sets) -> Section:
    """One row per data set; None while there is no synthetic set, or if the nets were trained on nothing real."""
    if sets.synthetic is None:
        return None
    audited = summary(run, AUDIT) is not None
    rows = shown_verdict(run).lineage if audited else None
    shown = rows if rows is not None else _not_recorded(run)
    return {"sources": shown, "audited": audited, "recorded": rows is not None} if shown else None


def not_covered(run: Run, verdict: Verdict) -> list[str]:
    """The data sets that the nets were trained on and that the audit does not compare the synthetic set with."""
    rows = verdict.lineage if verdict.lineage is not None else _not_recorded(run)
    return [row.data.name for row in rows if row.held_against is None]


def _not_recorded(run: Run) -> tuple[CheckedSet, ...]:
    """The lineage before the audit, or where the audit is of a version that did not record it.

    Such an audit compared the set with the training faces of the run, which are those of the first row.
    """
    own, *others = run.method.lineage(run) or (None,)
    rows = [CheckedSet(data=own, held_against="content")] if own else []
    return (*rows, *(CheckedSet(data=other, held_against=None) for other in others))
