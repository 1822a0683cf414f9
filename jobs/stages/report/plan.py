"""Report: an HTML page of the whole run, without external assets, and its figures as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from jobs import SUITE
from jobs.frame.products import PUBLISH, REPORT
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit


class WriteReport(StageConfig):
    """The report page."""

    title: str = Field(SUITE, description="Title of the report page.")


@dataclass(frozen=True, kw_only=True)
class ReportUnit(Unit):
    """File names of the page and of its figures as Markdown."""

    page: str
    figures: str


def plan(run: Run) -> list[ReportUnit]:
    """One unit."""
    return [ReportUnit(page="index.html", figures="results.md")]


def needs(run: Run) -> tuple[str, ...]:
    """All other stages of the run but publish: after a failed audit the page is needed most."""
    return tuple(name for name in run.stages if name not in (PUBLISH, REPORT) and run.includes(name))


STAGE = Stage(
    unit=ReportUnit,
    name=REPORT,
    title="one HTML page of the whole run",
    config=WriteReport,
    needs=needs,
    after=(PUBLISH,),
    plan=plan,
    work="jobs.stages.report.work",
)
