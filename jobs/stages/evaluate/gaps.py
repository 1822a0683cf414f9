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
        nets = decisions(run, name, models=models_of(run))
        own, seed = nets.pop(SYNTHETIC, None), derive(run.seed, f"gaps on {name}")
        gaps = {model: _gap(own, other, seed=seed) for model, other in nets.items()}
        if gaps and all(gaps.values()):
            found[name] = gaps
    return found


def gaps_of_runs(runs: Sequence[Run]) -> dict[str, list[dict[str, Any] | None]]:
    """By benchmark of the first run: accuracy of each run's net less that of the first, with its interval.

    None for the first run itself, and for runs whose benchmark of this name has other pairs or no figures.
    """
    first = runs[0]
    found: dict[str, list[dict[str, Any] | None]] = {}
    for name in benchmark_names(first) if first.ledger.summary(EVALUATE) else ():
        own, *others = (decisions(run, name, models=[SYNTHETIC]).get(SYNTHETIC) for run in runs)
        found[name] = [None, *(_gap(other, own, seed=derive(first.seed, f"gaps on {name}")) for other in others)]
    return {name: gaps for name, gaps in found.items() if any(gaps)}


def decisions(run: Run, name: str, *, models: Sequence[str]) -> dict[str, Decisions]:
    """What nets decided on a benchmark; without those that have no such figures, as in runs of older versions."""
    if name not in benchmark_names(run):
        return {}
    paths = {model: run.stage_folder(EVALUATE).output(verification_file(model, name)) for model in models}
    texts = {model: read_json(path).get("right_exact") for model, path in paths.items() if path.is_file()}
    if not any(texts.values()):
        return {}
    people = load_benchmark(run, name, config=run.section(EvaluateRecognition)).people()
    return {model: Decisions.read([text], people=people) for model, text in texts.items() if text}


def _gap(own: Decisions | None, other: Decisions | None, *, seed: int) -> dict[str, Any] | None:
    if own is None or other is None or not np.array_equal(own.people, other.people):
        return None
    gap = own.less(other)
    return {"mean": float(gap.right.mean()), "interval": mean_interval([gap], seed=seed)}
