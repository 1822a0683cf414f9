"""`cemiface info`: the sizes and costs that a config means, without running anything."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from jobs.frame.run import Run
from jobs.stages.train_recognition.plan import TrainEmbedder, TrainRecognition


def show_info(run: Run, console: Console, *, as_json: bool) -> None:
    """Print the numbers, as text or as JSON."""
    found = info(run)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for part, values in found.items():
        if isinstance(values, dict):
            console.print(f"[bold]{part}[/bold]")
            for name, value in values.items():
                console.print(f"  {name:<20} {_readable(value)}", highlight=False)
        else:
            console.print(f"{part:<22} {_readable(values)}", highlight=False)


def info(run: Run) -> dict[str, Any]:
    """Sizes and costs of the nets, and how many images are trained on and generated; only of stages in the config."""
    found: dict[str, Any] = {"name": run.config.name, **run.method.describe(run)}
    recognition = run.find(TrainRecognition) or run.find(TrainEmbedder)
    if recognition is not None:
        # The net is counted on itself, and torch takes seconds to import: not for the other commands.
        from cemiface.recognition.cost import recognition_cost

        found["recognition"] = recognition_cost(recognition.recognition)
    return found


def _readable(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
