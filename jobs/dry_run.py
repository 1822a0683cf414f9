"""The dry run: every job script and the plan of a launch, without starting anything and without Slurm."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jobs.stage import Run, Stage
from jobs.submission import StageWork, chain, scripts
from slurm.cluster import TrainResources

COLUMNS = ("stage", "reads", "units", "to do", "ranks", "jobs", "images", "node hours")


def show_plan(run: Run, stages: Sequence[Stage], console: Console) -> None:
    """Print what a launch of `stages` would do."""
    if run.cluster.executor == "slurm":
        for name, text in scripts(run, stages):
            console.rule(f"[bold]{name}", align="left")
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.rule(align="left")
    table = Table(title=f"{run.folder.root} ({run.cluster.executor})", title_justify="left", box=None, pad_edge=False)
    for column in COLUMNS:
        left = column in COLUMNS[:2]
        table.add_column(column, justify="left" if left else "right", no_wrap=column == "stage")
    planned = {work.stage.name: work for work in chain(run, stages)}
    for stage in stages:
        table.add_row(stage.name, *_row(run, stage, planned.get(stage.name)))
    console.print(table)
    if run.cluster.executor == "slurm":
        console.print(
            "node hours: of one turn of every job up to its time limit; a job that is stopped takes another turn",
            style="dim",
            highlight=False,
        )


def _row(run: Run, stage: Stage, work: StageWork | None) -> tuple[str, ...]:
    images = stage.expected_images(run)
    common = (", ".join(_nearest(run, stage)) or "files", str(len(run.plan(stage.name))))
    made = "-" if images is None else str(images)
    if work is None:
        return *common, "0", "-", "done", made, "-"
    ranks = sum(job.ranks for job in work.jobs if job.kind != "canary")
    if run.cluster.executor == "local":
        return *common, str(len(work.undone)), str(ranks), "local", made, "-"
    jobs = [f"{job.kind} of {job.tasks}" if job.tasks > 1 else job.kind for job in work.jobs]
    return *common, str(len(work.undone)), str(ranks), " + ".join(jobs), made, f"{_node_hours(run, work):.1f}"


def _nearest(run: Run, stage: Stage) -> tuple[str, ...]:
    """The stages it reads, without those that others of them read as well and so wait for anyway."""
    needs = stage.needs(run)
    implied = {far for name in needs for far in run.stages[name].needs(run)}
    return tuple(name for name in needs if name not in implied)


def _node_hours(run: Run, work: StageWork) -> float:
    asked = (run.cluster.of_train if work.stage.distributed else run.cluster.of_array)(work.stage.name)
    nodes = asked.nodes if isinstance(asked, TrainResources) else 1
    return sum(job.tasks for job in work.jobs) * nodes * asked.minutes / 60
