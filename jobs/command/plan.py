"""`cemiface plan`, the dry run: all job scripts, and a table of the work. Starts nothing and needs no Slurm."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich import filesize
from rich.console import Console
from rich.table import Table

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.launch import refusals
from jobs.launch.stage_work import StageWork, unfinished_stages
from jobs.launch.submit import scripts
from slurm.cluster import TrainResources
from slurm.submission.environment import unused

COLUMNS = ("stage", "reads", "units", "to do", "ranks", "jobs", "images", "GPU hours", "disk", "node hours")
WIDTH = 140

LEGEND = (
    "GPU hours: images divided by the throughput in the config; disk: size of the outputs; "
    "node hours: if every job runs once, up to its time limit"
)


def show_plan(run: Run, stages: Sequence[Stage[Unit]], console: Console) -> int:
    """Print what a launch of `stages` would do, and what it would refuse; returns the exit code."""
    if run.cluster.executor == "slurm":
        for name, text in scripts(run, stages):
            console.rule(f"[bold]{name}", align="left")
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.rule(align="left")
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)  # files have no screen width
    table = Table(title=f"{run.folder.root} ({run.cluster.executor})", title_justify="left", box=None, pad_edge=False)
    for column in COLUMNS:
        left = column in COLUMNS[:2]
        table.add_column(column, justify="left" if left else "right", no_wrap=column not in {"reads", "jobs"})
    planned = {work.stage.name: work for work in unfinished_stages(run, stages)}
    for stage in stages:
        table.add_row(stage.name, *_row(run, stage, planned.get(stage.name)))
    if len(planned) > 1:
        costs = [cost for work in planned.values() if (cost := work.stage.cost(run)) is not None]
        hours = [cost.gpu_hours for cost in costs if cost.gpu_hours is not None]
        total = [f"{sum(hours):.1f}" if hours else "-", filesize.decimal(sum(cost.disk_bytes for cost in costs)), ""]
        table.add_row("total", *[""] * (len(COLUMNS) - 4), *total, style="bold")
    console.print(table)
    for work in planned.values():
        forecast = work.stage.forecast(run)
        if forecast is not None:
            console.print(forecast, markup=False, highlight=False, soft_wrap=True)
    for line in unused(os.environ) if run.cluster.executor == "slurm" else ():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(LEGEND, style="dim", highlight=False, soft_wrap=True)
    refused = [f"a launch would refuse this: {error}" for error in refusals(run, stages)]
    for line in refused:
        console.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)
    return 1 if refused else 0


def _row(run: Run, stage: Stage[Unit], work: StageWork | None) -> tuple[str, ...]:
    images, cost = stage.expected_images(run), stage.cost(run)
    units = str(len(run.ledger.plan(stage.name).units))
    reads = ", ".join(_nearest(run, stage)) or "files"
    expected = "-" if images is None else str(images)
    if work is None:
        return reads, units, "0", "-", "done", expected, "-", "-", "-"
    jobs = [f"{job.kind} of {job.tasks}" if job.tasks > 1 else job.kind for job in work.jobs]
    slurm = run.cluster.executor == "slurm"
    return (
        reads,
        units,
        str(len(work.undone)),
        str(work.ranks),
        " + ".join(jobs) if slurm else "local",
        expected,
        "-" if cost is None or cost.gpu_hours is None else f"{cost.gpu_hours:.1f}",
        "-" if cost is None else filesize.decimal(cost.disk_bytes),
        f"{_node_hours(run, work):.1f}" if slurm else "-",
    )


def _nearest(run: Run, stage: Stage[Unit]) -> tuple[str, ...]:
    """The stages that it reads, without those that another one of them reads."""
    needs = stage.needs(run)
    implied = {far for name in needs for far in run.stages[name].needs(run)}
    return tuple(name for name in needs if name not in implied)


def _node_hours(run: Run, work: StageWork) -> float:
    """Node hours if every job of the stage runs once, up to its time limit."""
    resources = (run.cluster.of_train if work.stage.distributed else run.cluster.of_array)(work.stage.name)
    nodes = resources.nodes if isinstance(resources, TrainResources) else 1
    return sum(job.tasks for job in work.jobs) * nodes * resources.minutes / 60
