"""The work of report: both files, rendered from the run folder."""

from __future__ import annotations

from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.report.page import render
from jobs.stages.report.plan import ReportUnit, WriteReport
from slurm.files import publish


def run_rank(run: Run, rank: Rank) -> None:
    """Render and publish the files."""
    for work in rank.remaining(ReportUnit):
        # Replace: a killed attempt may have left a page without a marker; it names another launch, so it differs.
        for name, data in render(run, title=run.section(WriteReport).title).items():
            work.record(publish(rank.folder.output(name), data, replace=True))
        work.done(images=0, counts={})
