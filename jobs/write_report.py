"""Report: one HTML page of the whole run, without external assets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.stage import Run, Stage, StageConfig, Unit

if TYPE_CHECKING:
    from jobs.rank import Rank

PAGE = "index.html"


class WriteReport(StageConfig):
    title: str = "CemiFace batch suite"


def plan(run: Run) -> list[Unit]:
    return [{"page": PAGE}]


def needs(run: Run) -> tuple[str, ...]:
    """Everything else the config asks for."""
    return tuple(name for name in run.stages if name != "report" and run.asks_for(name))


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        work.publish(PAGE, b"<html></html>")
        work.done(images=0, counts={})


STAGE = Stage(
    name="report",
    title="one HTML page of the whole run",
    config=WriteReport,
    needs=needs,
    plan=plan,
    run_rank=run_rank,
)
