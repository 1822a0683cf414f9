"""What a launch would do."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from jobs.stage import Run


def show_plan(run: Run, console: Console) -> None:
    """What a launch would do, without doing it."""
    table = Table(title=f"{run.folder.root} ({run.cluster.executor})", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "reads", "units", "to do", "ranks", "images"):
        table.add_column(column, justify="left" if column in {"stage", "reads"} else "right")
    for stage in run.chain:
        states = run.unit_states(stage)
        waiting = sum(state is not None for state in states)
        ranks = run.cluster.train.world_size if stage.distributed else min(run.cluster.array_ranks(), len(states))
        images = stage.expected_images(run)
        table.add_row(
            stage.name,
            ", ".join(stage.needs(run)) or "files",
            str(len(states)),
            str(waiting),
            str(ranks),
            "-" if images is None else str(images),
        )
    console.print(table)
