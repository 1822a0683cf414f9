"""The report's measured parts: each reads what its stage left and says it in numbers, plots and a sentence.

A part is None where its stage is no part of the run, or has not finished.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.report_part import Section, Sets, summary
from jobs.report_plots import (
    BLUE,
    GRAY,
    INK,
    ORANGE,
    accuracy_plot,
    curves_plot,
    roc_plot,
    score_plot,
    similarity_plot,
)
from jobs.stage import Run
from slurm.files import read_json

EMBEDDER, SYNTHETIC_NET, UNTRAINED = "embedder", "synthetic", "untrained"  # the models of the evaluate stage
COLORS = {UNTRAINED: GRAY, EMBEDDER: BLUE, SYNTHETIC_NET: ORANGE}


def similarity(run: Run, sets: Sets) -> Section:
    """Wished and measured similarity of every generated face."""
    if sets.synthetic is None:
        return None
    measured: dict[float, list[float]] = {}
    for record in sets.synthetic.records():
        measured.setdefault(record["m"], []).append(record["measured_cosine"])
    cosines = {m: np.asarray(measured[m]) for m in sorted(measured)}
    wishes = np.repeat(list(cosines), [len(values) for values in cosines.values()])
    values = np.concatenate(list(cosines.values()))
    varied = len(cosines) > 1 and values.std() > 0
    judged = _judged(run)
    return {
        "chart": similarity_plot(cosines),
        "rows": [
            {"m": m, "images": len(found), "mean": found.mean(), "std": found.std(), "judge": judged.get(m)}
            for m, found in cosines.items()
        ],
        "judged": bool(judged),
        "correlation": float(np.corrcoef(wishes, values)[0, 1]) if varied else None,
    }


def _judged(run: Run) -> dict[float, float]:
    """The mean cosine by m of a net that did not guide the generator, where the run has one."""
    done = summary(run, "evaluate")
    scored = done["figures"]["scores"].get("synthetic", {}) if done else {}
    return {row["m"]: row["mean"] for row in scored.get("judge_cosine_to_inquiry", [])}


def training(run: Run, sets: Sets) -> Section:
    """Curves of the denoiser and of the recognition nets."""
    plots = []
    denoiser = _metrics(run, "train-diffusion")
    if denoiser:
        losses = {"loss": (_curve(denoiser, "loss"), INK), "noise MSE": (_curve(denoiser, "mse"), GRAY)}
        match = {
            "cosine": (_curve(denoiser, "cosine"), ORANGE),
            "similarity term": (_curve(denoiser, "similarity"), INK),
            "reconstruction term": (_curve(denoiser, "reconstruction"), GRAY),
        }
        plots += [
            {
                "caption": "Denoiser: the loss of eq. 14, and its noise MSE.",
                "svg": curves_plot(losses, what="denoiser loss", log=True),
            },
            {
                "caption": "Denoiser: cosine of the predicted face to its condition, and the terms of eq. 11 and 12.",
                "svg": curves_plot(match, what="value"),
            },
        ]
    nets = {
        model: (_metrics(run, stage), color)
        for model, stage, color in (
            (EMBEDDER, "train-embedder", BLUE),
            (SYNTHETIC_NET, "train-recognition", ORANGE),
        )
    }
    nets = {model: net for model, net in nets.items() if net[0]}
    for field, what in (("loss", "loss"), ("accuracy_with_margin", "accuracy with margin")) if nets else ():
        curves = {model_name(run, model): (_curve(lines, field), color) for model, (lines, color) in nets.items()}
        plots.append({"caption": f"Recognition nets: {what} in training.", "svg": curves_plot(curves, what=what)})
    return {"plots": plots} if plots else None


def verification(run: Run, sets: Sets) -> Section:
    """Accuracy of every model on pairs of people nobody trained on."""
    done = summary(run, "evaluate")
    found: dict[str, dict[str, Any]] = done["figures"]["verification"] if done else {}
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
    parts = {kind: read_json(folder.output(f"scores-{kind}.json")) for kind in done["figures"]["scores"]}
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
    return {"sets": kinds, "kl": done["figures"].get("kl_synthetic_to_real")}


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
    return "trained on " + " + ".join(run.section("train-recognition").sets)


def _metrics(run: Run, stage: str) -> list[dict[str, float]]:
    path = run.stage_folder(stage).metrics
    if not run.asks_for(stage) or not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]  # a killed writer may leave half a line


def _curve(lines: Sequence[Mapping[str, float]], field: str) -> tuple[list[float], list[float]]:
    return [line["images"] for line in lines], [line[field] for line in lines]
