"""Report: one HTML page of the whole run, without external assets, and its figures as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit


class WriteReport(StageConfig):
    """The report page."""

    title: str = Field("CemiFace batch suite", description="Title of the report page.")


@dataclass(frozen=True, kw_only=True)
class ReportUnit(Unit):
    """The page, and its figures as Markdown, by file name."""

    page: str
    figures: str


def plan(run: Run) -> list[ReportUnit]:
    return [ReportUnit(page="index.html", figures="results.md")]


def needs(run: Run) -> tuple[str, ...]:
    """Everything else the config asks for; not publish, as a failed audit is when people want the page most."""
    return tuple(name for name in run.stages if name not in ("publish", "report") and run.asks_for(name))


STAGE = Stage(
    unit=ReportUnit,
    name="report",
    title="one HTML page of the whole run",
    config=WriteReport,
    needs=needs,
    after=("publish",),
    plan=plan,
    work="jobs.stages.report.work",
)
