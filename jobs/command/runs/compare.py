"""`cemiface compare`: the figures of several runs side by side, from their folders. Needs no config file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run_folder
from jobs.frame.experiment_config import sentence
from jobs.frame.products import EVALUATE, SYNTHETIC
from jobs.frame.run import Run
from jobs.report.part import summary
from jobs.report.set_facts import facts_of_set, rank_seconds
from jobs.stages.shared.studies.tables import gap_text
from jobs.watch.task_reasons import duration

NAME = "compare"
TEXT = "show several runs side by side: config fields that differ, figures, gaps in accuracy with intervals, costs"
EXAMPLES = """examples:
  cemiface compare runs/demo runs/steps10
  cemiface compare runs/lfw40 runs/gandiffface_lfw --json

Gaps are to the first run, at exact thresholds, on benchmarks of the same pairs. Where the 95 % interval includes 0, the
nets are not told apart."""
NOTHING = "-"


def add_compare_command(commands: Any, *, formatter: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        NAME, help=TEXT, description=sentence(TEXT), epilog=EXAMPLES, formatter_class=formatter
    )
    command.set_defaults(overrides=[], stage=None, rank=None)
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, e.g. runs/demo")
    command.add_argument("--json", action="store_true", help="for scripts")


def run_compare(options: argparse.Namespace) -> int:
    """Print the comparison; returns 0.

    Raises:
        ConfigError: fewer than two folders, or one is not that of a run.
    """
    if len(options.runs) < 2:
        raise ConfigError(f"{NAME}: got one run; allowed: two or more")
    found = compare([load_run_folder(folder) for folder in options.runs])
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        show(found, console=Console())
    return 0


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """JSON-ready: `runs`, and by row a value per run: `config`, `figures`, `seconds` of all ranks by stage; `gaps`."""
    # It reads pairs and tars with the code of the stages, which imports torch for seconds: not for other commands.
    from jobs.stages.evaluate.gaps import gaps_of_runs

    for run in runs:
        run.ledger.recorded = True
    stages = dict.fromkeys(stage.name for run in runs for stage in run.chain)
    seconds = {name: [rank_seconds(run, name) if summary(run, name) else None for run in runs] for name in stages}
    return {
        "runs": [str(run.folder.root) for run in runs],
        "config": config_differences(runs),
        "figures": _columns([_figures(run) for run in runs]),
        "gaps": gaps_of_runs(runs),
        "seconds": {name: values for name, values in seconds.items() if any(values)},
    }


def config_differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Fields whose values differ, by dotted name; names and folders of runs are left out."""
    fields = [
        _flat(run.config.model_dump(mode="json", by_alias=True, exclude={"root", "runs", "name"})) for run in runs
    ]
    return {name: values for name, values in _columns(fields).items() if any(value != values[0] for value in values)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found |= _flat(inner, f"{prefix}{name}.")
        elif inner is not None:
            found[f"{prefix}{name}"] = inner
    return found


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By name, the value of each row; None where it has none."""
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def _figures(run: Run) -> dict[str, Any]:
    """What the finished stages measured of the set and of the net that was trained on it."""
    made, evaluated, facts = summary(run, run.method.generate.name), summary(run, EVALUATE), facts_of_set(run)
    found: dict[str, Any] = {"method": run.method.name, "images": made.images_out if made else None}
    found |= {"seconds to make": facts["seconds"], "leaked": facts["leaked"]}
    if evaluated is None:
        return found
    figures = evaluated.figures
    verified = {**({"held-out": figures["verification"]} if figures["verification"] else {}), **figures["benchmarks"]}
    for name, nets in verified.items():
        own = nets.get(SYNTHETIC, {})
        for key, title in (("accuracy", "accuracy"), ("accuracy_exact", "at exact thresholds"), ("eer", "EER")):
            found[f"{name}: {title}"] = own.get(key)
    scores = figures["scores"].get(SYNTHETIC, {})
    for key in ("mated_mean", "non_mated_mean", "eer", "fisher"):
        found[f"set: {key.replace('_', ' ')}"] = scores.get(key)
    found["set: Fréchet distance"] = figures.get("frechet_distance")
    return found


def show(found: Mapping[str, Any], *, console: Console) -> None:
    """Print the comparison as tables."""
    names = [Path(run).name for run in found["runs"]]
    _print("config", found["config"], names=names, console=console, text=_plain)
    _print("figures", found["figures"], names=names, console=console, text=_number)
    gaps = {f"{name}: gap to {names[0]}, points": values for name, values in found["gaps"].items()}
    _print("accuracy", gaps, names=names, console=console, text=gap_text)
    _print("time of all ranks", found["seconds"], names=names, console=console, text=duration)


def _print(title: str, rows: Mapping[str, Sequence[Any]], *, names: Sequence[str], console: Console, text: Any) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(title, overflow="fold")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for label, values in rows.items():
        table.add_row(label, *(NOTHING if value is None else text(value) for value in values))
    console.print(table, highlight=False, markup=False)
    console.print()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
