"""The report's measured parts: each reads what its stage left and says it in numbers, plots and a sentence.

A part is None where its stage is no part of the run, or has not finished.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.frame.method import load
from jobs.frame.products import RECOGNITION
from jobs.frame.run import Run
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import BLUE, GRAY, ORANGE, accuracy_plot, curves_plot, roc_plot, score_plot
from slurm.files import read_json

EMBEDDER, SYNTHETIC_NET, UNTRAINED = "embedder", "synthetic", "untrained"  # the models of the evaluate stage

COLORS = {UNTRAINED: GRAY, EMBEDDER: BLUE, SYNTHETIC_NET: ORANGE}


def training(run: Run, sets: Sets) -> Section:
    """Curves of the denoiser and of the recognition nets."""
    plots: list[dict[str, Any]] = []
    for name in run.method.own_stages:
        plots += load(run.method.training_plots)(name, _metrics(run, name)) if run.method.training_plots else []
    nets = {
        model: (_metrics(run, stage), color)
        for model, stage, color in (
            (EMBEDDER, "train-embedder", BLUE),
            (SYNTHETIC_NET, "train-recognition", ORANGE),
        )
    }
    nets = {model: net for model, net in nets.items() if net[0]}
    for field, what in (("loss", "loss"), ("accuracy_with_margin", "accuracy with margin")) if nets else ():
        curves = {model_name(run, model): (curve(lines, field), color) for model, (lines, color) in nets.items()}
        plots.append({"caption": f"Recognition nets: {what} in training.", "svg": curves_plot(curves, what=what)})
    return {"plots": plots} if plots else None


def verification(run: Run, sets: Sets) -> Section:
    """Accuracy of every model on pairs of people nobody trained on."""
    done = summary(run, "evaluate")
    found: dict[str, dict[str, Any]] = done.figures["verification"] if done else {}
    models = {model: {**found[model], "name": model_name(run, model)} for model in COLORS if model in found}
    if not models:
        return None
    folder = run.stage_folder("evaluate")
    rocs = {model: read_json(folder.output(f"verify-{model}.json"))["roc"] for model in models}
    pairs, people = models[UNTRAINED]["pairs"], models[UNTRAINED]["people"]
    return {
        "models": models,
        "pairs": pairs,
        "people": people,
        "gaps": _gaps(models),
        "bars": accuracy_plot(
            [(found["name"], found["accuracy"], found["std"], COLORS[model]) for model, found in models.items()]
        ),
        "roc": roc_plot(
            {models[model]["name"]: ((roc["far"], roc["tar"]), COLORS[model]) for model, roc in rocs.items()},
            pairs=pairs // 2,
        ),
    }


def scores(run: Run, sets: Sets) -> Section:
    """Mated and non-mated cosines under E_id, of the real and of the synthetic set."""
    done = summary(run, "evaluate")
    if not done:
        return None
    folder = run.stage_folder("evaluate")
    parts = {kind: read_json(folder.output(f"scores-{kind}.json")) for kind in done.figures["scores"]}
    shares = {
        kind: {side: np.asarray(part[side]) / max(1, sum(part[side])) for side in ("mated", "non_mated")}
        for kind, part in parts.items()
    }
    top = 1.08 * max(share.max() for sides in shares.values() for share in sides.values())
    kinds = {
        kind: {
            **parts[kind]["figures"],
            "images": parts[kind]["images"],
            "plot": score_plot(parts[kind]["bins"], **shares[kind], color=color, top=top),
        }
        for kind, color in (("real", BLUE), ("synthetic", ORANGE))
        if kind in parts
    }
    return {"sets": kinds, "kl": done.figures.get("kl_synthetic_to_real")}


def _sets(run: Run) -> list[str]:
    """What the recognition net was trained on."""
    done = summary(run, RECOGNITION)
    return done.fingerprint[RECOGNITION]["sets"] if done else []


def _gaps(models: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Points of accuracy by which the synthetic net is above (below: negative) each other model."""
    if SYNTHETIC_NET not in models:
        return {}
    own = models[SYNTHETIC_NET]["accuracy"]
    return {model: 100 * (own - figures["accuracy"]) for model, figures in models.items() if model != SYNTHETIC_NET}


def model_name(run: Run, model: str) -> str:
    """A model as people call it."""
    if model == UNTRAINED:
        return "untrained"
    if model == EMBEDDER:
        return "given as E_id" if run.config.embedder.weights else "trained on real"
    return "trained on " + " + ".join(_sets(run))


def _metrics(run: Run, stage: str) -> list[dict[str, float]]:
    path = run.stage_folder(stage).metrics
    if not run.asks_for(stage) or not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]  # a killed writer may leave half a line


def curve(lines: Sequence[Mapping[str, float]], field: str) -> tuple[list[float], list[float]]:
    return [line["images"] for line in lines], [line[field] for line in lines]
