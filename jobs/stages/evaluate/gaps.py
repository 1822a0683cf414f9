"""Gaps in accuracy between verified nets, of one run or of several, with intervals over people.

At exact thresholds: on the protocol's grid an untrained net has 50 % whatever it can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cemiface.recognition.gap_intervals import Decisions, mean_interval
from jobs.frame.products import EVALUATE, RECOGNITION, SYNTHETIC, verification_file
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.stages.evaluate.plan import EvaluateRecognition, models_of
from jobs.stages.shared.benchmarks import load_benchmark
from jobs.stages.shared.verification import benchmark_names
from slurm.files import read_json


def gaps_of_nets(run: Run) -> dict[str, Any]:
    """By benchmark and other net: accuracy of the net trained on the set less that net's, with its interval."""
    found: dict[str, Any] = {}
    for name in benchmark_names(run) if run.includes(RECOGNITION) else ():
        nets = {model: decisions(run, model, name) for model in models_of(run)}
        own, seed = nets.pop(SYNTHETIC), derive(run.seed, f"gaps on {name}")
        gaps = {model: _gap(own, other, seed=seed) for model, other in nets.items()}
        if all(gaps.values()):
            found[name] = gaps
    return found


def gaps_of_runs(runs: Sequence[Run]) -> dict[str, list[dict[str, Any] | None]]:
    """By benchmark of the first run: accuracy of each run's net less that of the first, with its interval.

    None for the first run itself, and for runs whose benchmark of this name has other pairs or no figures.
    """
    first = runs[0]
    found: dict[str, list[dict[str, Any] | None]] = {}
    for name in benchmark_names(first) if first.ledger.summary(EVALUATE) else ():
        own, seed = decisions(first, SYNTHETIC, name), derive(first.seed, f"gaps on {name}")
        found[name] = [None, *(_gap(decisions(run, SYNTHETIC, name), own, seed=seed) for run in runs[1:])]
    return {name: gaps for name, gaps in found.items() if any(gaps)}


def decisions(run: Run, model: str, name: str) -> Decisions | None:
    """What a net decided on a benchmark; None without such figures, as in runs of older versions."""
    path = run.stage_folder(EVALUATE).output(verification_file(model, name))
    right = read_json(path).get("right_exact") if name in benchmark_names(run) and path.is_file() else None
    if not right:
        return None
    people = load_benchmark(run, name, config=run.section(EvaluateRecognition)).people()
    return Decisions(right=np.array([[float(bit) for bit in right]]), people=people)


def _gap(own: Decisions | None, other: Decisions | None, *, seed: int) -> dict[str, Any] | None:
    if own is None or other is None or not np.array_equal(own.people, other.people):
        return None
    gap = own.less(other)
    return {"mean": float(gap.right.mean()), "interval": mean_interval([gap], seed=seed)}
