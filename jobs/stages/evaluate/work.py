"""The work of evaluate: a net verified on a benchmark, or a set scored, per unit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from cemiface.recognition.nets import Embedder, build_recognition, load_recognition
from jobs.frame.products import HELD_OUT, RECOGNITION, SYNTHETIC, WEIGHTS, verification_file
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.stages.evaluate.gaps import gaps_of_nets
from jobs.stages.evaluate.plan import EvaluateRecognition, EvaluateUnit, kinds
from jobs.stages.evaluate.scores import differences, score
from jobs.stages.shared.benchmarks import load_benchmark, verify
from jobs.stages.shared.embedding import load_embedder
from jobs.training.device import rank_device
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
            "gaps": gaps_of_nets(run),
            "scores": {marker.figures["set"]: marker.figures for marker in markers if "set" in marker.figures},
            **(differences(run) if SYNTHETIC in kinds(run) else {}),
        }
    )
