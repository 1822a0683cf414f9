"""The report's parts on what was measured: training curves, verification, scores of pairs.

Each reads the outputs of its stage; it is None where the run has no such stage or it has not finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.frame.method import load
from jobs.frame.metrics_file import read_metrics
from jobs.frame.products import EMBEDDER as EMBEDDER_STAGE
from jobs.frame.products import EVALUATE, HELD_OUT, REAL, RECOGNITION, SYNTHETIC, verification_file
from jobs.frame.run import Run
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import BLUE, GRAY, ORANGE, accuracy_plot, curves_plot, roc_plot, score_plot
from slurm.files import read_json

EMBEDDER, SYNTHETIC_NET, UNTRAINED = "embedder", "synthetic", "untrained"  # the nets that evaluate verifies
COLORS = {UNTRAINED: GRAY, EMBEDDER: BLUE, SYNTHETIC_NET: ORANGE}


def training(run: Run, sets: Sets) -> Section:
    """Curves of the method's own trainings and of the recognition nets."""
    plots: list[dict[str, Any]] = []
    for name in run.method.own_stages:
        plots += load(run.method.training_plots)(name, _metrics(run, name)) if run.method.training_plots else []
    nets = {
        model: (_metrics(run, stage), color)
        for model, stage, color in (
            (EMBEDDER, EMBEDDER_STAGE, BLUE),
            (SYNTHETIC_NET, RECOGNITION, ORANGE),
        )
    }
    nets = {model: net for model, net in nets.items() if net[0]}
    for field, what in (("loss", "loss"), ("accuracy_with_margin", "accuracy with margin")) if nets else ():
        curves = {model_name(run, model): (curve(lines, field), color) for model, (lines, color) in nets.items()}
        plots.append({"caption": f"Recognition nets: {what} in training.", "svg": curves_plot(curves, what=what)})
    return {"plots": plots} if plots else None


def verification(run: Run, sets: Sets) -> Section:
    """Accuracy of every net on pairs of held-out people, whom no net was trained on."""
    done = summary(run, EVALUATE)
    found: dict[str, dict[str, Any]] = done.figures["verification"] if done else {}
    models = {model: {**found[model], "name": model_name(run, model)} for model in COLORS if model in found}
    if not models:
        return None
    folder = run.stage_folder(EVALUATE)
    rocs = {model: read_json(folder.output(verification_file(model, HELD_OUT)))["roc"] for model in models}
    exact = done.figures.get("gaps", {}).get(HELD_OUT, {}) if done else {}
    pairs, people = models[UNTRAINED]["pairs"], models[UNTRAINED]["people"]
    return {
        "models": models,
        "pairs": pairs,
        "people": people,
        "gaps": _gaps(models, exact=exact),
        "intervals": {model: [100 * bound for bound in gap["interval"]] for model, gap in exact.items()},
        "exact": all("accuracy_exact" in figures for figures in models.values()),  # older runs did not measure it
        "bars": accuracy_plot(
            [(found["name"], found["accuracy"], found["std"], COLORS[model]) for model, found in models.items()]
        ),
        "roc": roc_plot(
            {models[model]["name"]: ((roc["far"], roc["tar"]), COLORS[model]) for model, roc in rocs.items()},
            pairs=pairs // 2,
        ),
    }


def scores(run: Run, sets: Sets) -> Section:
    """Mated and non-mated cosines of the real and the synthetic set, under E_id or `evaluate.judge`."""
    done = summary(run, EVALUATE)
    if not done:
        return None
    folder = run.stage_folder(EVALUATE)
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
        for kind, color in ((REAL, BLUE), (SYNTHETIC, ORANGE))
        if kind in parts
    }
    return {"sets": kinds, "kl": done.figures.get("kl_synthetic_to_real")}


def _sets(run: Run) -> list[str]:
    """The sets that the recognition net was trained on."""
    done = summary(run, RECOGNITION)
    return done.fingerprint[RECOGNITION]["sets"] if done else []


def _gaps(models: Mapping[str, Mapping[str, Any]], *, exact: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Accuracy of the net trained on the set less that of each other net, in percentage points.

    At exact thresholds, where the run measured it.
    """
    if exact:
        return {model: 100 * gap["mean"] for model, gap in exact.items()}
    if SYNTHETIC_NET not in models:
        return {}
    own = models[SYNTHETIC_NET]["accuracy"]
    return {model: 100 * (own - figures["accuracy"]) for model, figures in models.items() if model != SYNTHETIC_NET}


def model_name(run: Run, model: str) -> str:
    """A net as the page calls it."""
    if model == UNTRAINED:
        return "untrained"
    if model == EMBEDDER:
        return "given as E_id" if run.config.embedder.weights else "trained on real"
    return "trained on " + " + ".join(_sets(run))


def _metrics(run: Run, stage: str) -> list[dict[str, float]]:
    return read_metrics(run.stage_folder(stage).metrics) if run.includes(stage) else []


def curve(lines: Sequence[Mapping[str, float]], field: str) -> tuple[list[float], list[float]]:
    """A metric over training images, both as lists."""
    return [line["images"] for line in lines], [line[field] for line in lines]
