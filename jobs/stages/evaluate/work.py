"""The work of evaluate: a net verified on a benchmark, or a set scored, per unit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cemiface.recognition.gap_intervals import Decisions, mean_interval
from cemiface.recognition.nets import Embedder, build_recognition, load_recognition
from jobs.frame.products import EVALUATE, HELD_OUT, RECOGNITION, SYNTHETIC, WEIGHTS, verification_file
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.stages.evaluate.plan import EvaluateRecognition, EvaluateUnit, kinds, models_of
from jobs.stages.evaluate.scores import differences, score
from jobs.stages.shared.benchmarks import load_benchmark, verify
from jobs.stages.shared.embedding import load_embedder
from jobs.training.device import rank_device
from slurm.files import read_json
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Verify this rank's nets and score its sets."""
    for work in rank.remaining(EvaluateUnit):
        unit = work.unit
        if unit.verify is not None and unit.on is not None:
            _verify(run, unit.verify, unit.on, work=work)
        elif unit.scores is not None:
            score(run, unit.scores, work=work)


def _verify(run: Run, model: str, name: str, *, work: Work[EvaluateUnit]) -> None:
    config = run.section(EvaluateRecognition)
    benchmark = load_benchmark(run, name, config=config)
    embedder = _model(run, model, work=work)
    result = verify(benchmark, embedder, config=config, progress=work.progress)
    result["figures"]["model"] = model
    work.publish(verification_file(model, name), (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    work.done(images=result["images"], counts={"embedded": result["images"]}, figures=result["figures"])


def _model(run: Run, name: str, *, work: Work[EvaluateUnit]) -> Embedder:
    device = rank_device(work.rank)
    if name == "embedder":
        return load_embedder(run, device=device)
    if name == SYNTHETIC:
        return load_recognition(run.stage_folder(RECOGNITION).output(WEIGHTS)).to(device)
    torch.manual_seed(derive(run.seed, "untrained net"))  # the floor that trained nets are compared with
    config = load_embedder(run).config
    return Embedder(build_recognition(config), config).to(device)


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """All figures, and the distances of the synthetic score distributions from the real ones."""
    verified = [marker.figures for marker in markers if "model" in marker.figures]
    benchmarks: dict[str, dict[str, Any]] = {}
    for figures in verified:
        benchmarks.setdefault(figures["benchmark"], {})[figures["model"]] = figures
    held_out = benchmarks.pop(HELD_OUT, {})
    average = {
        model: sum(found[model]["accuracy"] for found in benchmarks.values()) / len(benchmarks)
        for model in next(iter(benchmarks.values()), {})
    }
    return Finish(
        figures={
            "verification": held_out,
            "benchmarks": benchmarks,
            "average": average,
            "gaps": _gaps(run, [marker.figures["benchmark"] for marker in markers if "model" in marker.figures]),
            "scores": {marker.figures["set"]: marker.figures for marker in markers if "set" in marker.figures},
            **(differences(run) if SYNTHETIC in kinds(run) else {}),
        }
    )


def _gaps(run: Run, benchmarks: Sequence[str]) -> dict[str, Any]:
    """By benchmark and other net: accuracy of the net trained on the set less that net's, with its interval."""
    if not run.includes(RECOGNITION):
        return {}
    config, folder, found = run.section(EvaluateRecognition), run.stage_folder(EVALUATE), {}
    for name in dict.fromkeys(benchmarks):
        right = {
            model: read_json(folder.output(verification_file(model, name))).get("right") for model in models_of(run)
        }
        if not all(right.values()):  # of an older version
            continue
        people = load_benchmark(run, name, config=config).people()
        nets = {
            model: Decisions(right=np.array([[float(bit) for bit in bits]]), people=people)
            for model, bits in right.items()
        }
        own, seed = nets.pop(SYNTHETIC), derive(run.seed, f"gaps on {name}")
        gaps = {model: own.less(other) for model, other in nets.items()}
        found[name] = {
            model: {"mean": float(gap.right.mean()), "interval": mean_interval([gap], seed=seed)}
            for model, gap in gaps.items()
        }
    return found
