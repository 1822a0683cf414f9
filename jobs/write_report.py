"""Report: one HTML page of the whole run, without external assets, and its figures as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.stage import Run, Stage, StageConfig, Unit
from slurm.files import publish

if TYPE_CHECKING:
    from jobs.rank import Rank


class WriteReport(StageConfig):
    title: str = "CemiFace batch suite"


def plan(run: Run) -> list[Unit]:
    return [{"page": "index.html", "figures": "results.md"}]


def needs(run: Run) -> tuple[str, ...]:
    """Everything else the config asks for; not publish, as a failed audit is when people want the page most."""
    return tuple(name for name in run.stages if name not in ("publish", "report") and run.asks_for(name))


def run_rank(run: Run, rank: Rank) -> None:
    from jobs.report_page import render

    for work in rank.remaining():
        # Replaces: the page names the launch, so a page left without a marker by a killed attempt differs.
        for name, data in render(run).items():
            work.record(publish(rank.folder.output(name), data, replace=True))
        work.done(images=0, counts={})


STAGE = Stage(
    name="report",
    title="one HTML page of the whole run",
    config=WriteReport,
    needs=needs,
    after=("publish",),
    plan=plan,
    run_rank=run_rank,
)
