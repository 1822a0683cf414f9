"""The work of study-scores: embed and measure each set, then compare them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy

from cemiface.errors import ModelError
from cemiface.gandiff.demographics import category
from cemiface.measures.attributes import open_attribute_nets
from cemiface.measures.score_intervals import (
    PairScores,
    divergence_intervals,
    divergences,
    statistics_intervals,
)
from cemiface.recognition.nets import load_recognition
from cemiface.recognition.scores import BINS, histogram, mated_pairs, non_mated_pairs
from cemiface.recognition.verification import check_embeddings, unit_rows
from jobs.frame.products import REAL, SYNTHETIC
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.methods.gandiffface.portraits.plan import STAGE as PORTRAITS_STAGE
from jobs.methods.gandiffface.study_scores.likeness import (
    identity_means,
    mated_means,
    mean_intervals,
    paired,
    portrait_likeness,
)
from jobs.methods.gandiffface.study_scores.plan import NAME, UNTUNED, ScoresUnit, StudyScores
from jobs.methods.gandiffface.study_scores.untuned import publish_untuned
from jobs.stages.shared.embedding import embed, load_embedder
from jobs.stages.shared.sets import set_of
from jobs.training.device import rank_device
from shards.tars.shard_set import ShardSet
from shards.tars.subset import Subset, whole_identities
from slurm.files import read_json
from slurm.markers import Marker

AGES = ("18-29", "30-44", "45-59", "60+")
LABELS = {"gender": ("female", "male"), "age": AGES}
DIGITS = 4

# The released set, 10,000 identities, images not aligned, under ArcFace R100: arXiv 2510.17372, replication package.
RELEASED = {
    "mated_mean": 0.2257,
    "non_mated_mean": 0.0684,
    "eer": 0.3146,
    "fmr100": 0.8945,
    "fmr1000": 0.9753,
    "fisher": 0.42,
}


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the scores of each set."""
    for work in rank.remaining(ScoresUnit):
        _score(run, work)


def _score(run: Run, work: Work[ScoresUnit]) -> None:
    """Publish a set's figures as JSON and its scores and attributes as safetensors."""
    config, kind = run.section(StudyScores), work.unit.set
    everything = publish_untuned(run, work) if kind == UNTUNED else _faces(run, kind)
    seed = derive(run.seed, f"scored identities of {kind}")
    faces = Subset(everything, whole_identities(everything.labels, images=config.images, seed=seed))
    judge = Judge(run, work)
    unit = judge.rows(faces)
    scores = _pairs(unit, faces.labels, seed=derive(run.seed, "score pairs"), limit=config.scores)
    measured = _measured(run, faces, work=work)
    by_identity = {name: identity_means(values, faces.labels) for name, values in measured.items()}
    figures = {
        "set": kind,
        "images": len(faces),
        "identities": scores.identities,
        **_with_intervals(scores, seed=derive(run.seed, "bootstrap"), rounds=config.rounds),
        "cells": _by_cell(config, scores, by_identity, seed=derive(run.seed, "bootstrap of cells")),
        "attributes": {name: round(float(values.mean()), DIGITS) for name, values in sorted(by_identity.items())},
        **({"likeness": _likeness(run, faces, unit, judge=judge)} if kind == SYNTHETIC else {}),
        **({"against_set": _against_set(run, faces, unit, judge=judge)} if kind == UNTUNED else {}),
    }
    result = {
        "figures": figures,
        "bins": BINS.tolist(),
        "mated": histogram(scores.mated).tolist(),
        "non_mated": histogram(scores.non_mated).tolist(),
        "classes": faces.classes,
    }
    arrays = {
        "mated": scores.mated,
        "mated_of": scores.mated_of,
        "non_mated": scores.non_mated,
        "non_mated_of": scores.non_mated_of,
        **{f"attribute {name}": values for name, values in by_identity.items()},
    }
    work.publish(f"scores-{kind}.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    work.publish(f"scores-{kind}.safetensors", safetensors.numpy.save(arrays))
    work.done(images=len(faces), counts={"scored": len(faces)}, figures=figures)


def _faces(run: Run, kind: str) -> ShardSet:
    if kind != PORTRAITS:
        return set_of(run, kind=kind)
    return ShardSet([run.stage_folder(PORTRAITS).output(unit.tar) for unit in run.ledger.units(PORTRAITS_STAGE)])


class Judge:
    """The net that scores the sets, on the device of a rank."""

    def __init__(self, run: Run, work: Work[ScoresUnit]) -> None:
        config, device = run.section(StudyScores), rank_device(work.rank)
        weights = config.judge.weights
        self.batch, self.progress = config.batch, work.progress
        self.net = (
            load_embedder(run, device=device)
            if weights is None
            else load_recognition(run.path(weights), color=config.judge.color).to(device)
        )

    def rows(self, faces: Subset) -> np.ndarray:
        """Embeddings (N, E) of unit length."""
        features, _ = embed(faces, embedder=self.net, batch=self.batch, progress=self.progress, mirror=False)
        check_embeddings(features, names=faces.keys)
        return unit_rows(features)


def _likeness(run: Run, faces: Subset, unit: np.ndarray, *, judge: Judge) -> dict[str, Any]:
    """How near the set's pictures are to the portraits of their identity, and whether they copy one."""
    config, seed = run.section(StudyScores), derive(run.seed, "bootstrap of likeness")
    found = portrait_likeness(unit, faces.labels, _portraits(run, faces.classes, judge=judge))
    return mean_intervals(found, seed=seed, rounds=config.rounds)


def _portraits(run: Run, identities: list[str], *, judge: Judge) -> list[np.ndarray]:
    """The portraits (P, E) of each identity under the judge, rows of length 1."""
    everything = _faces(run, PORTRAITS)
    faces = Subset(everything, np.flatnonzero(np.isin(everything.identities, identities)))
    assert faces.classes == identities
    unit = judge.rows(faces)
    return [unit[faces.labels == label] for label in range(len(identities))]


def _against_set(run: Run, untuned: Subset, unit: np.ndarray, *, judge: Judge) -> dict[str, Any]:
    """Pictures of the untuned base and those of the set by the same prompts, of identities with two or more."""
    config, seed = run.section(StudyScores), derive(run.seed, "bootstrap of the untuned base")
    rows = np.flatnonzero((np.bincount(untuned.labels) > 1)[untuned.labels])
    if not len(rows):
        return {"identities": 0}
    everything = set_of(run, kind=SYNTHETIC)
    row_of = {key: row for row, key in enumerate(everything.keys)}
    own = Subset(everything, np.array([row_of[untuned.keys[row]] for row in rows]))
    portraits = _portraits(run, own.classes, judge=judge)
    both = [
        {"to_center": portrait_likeness(one, own.labels, portraits)["to_center"], "mated": mated_means(one, own.labels)}
        for one in (judge.rows(own), unit[rows])
    ]
    return {
        "identities": len(own.classes),
        "images": len(own),
        **paired(*both, seed=seed, rounds=config.rounds),
    }


def _pairs(unit: np.ndarray, labels: np.ndarray, *, seed: int, limit: int) -> PairScores:
    mated, non_mated = mated_pairs(labels, seed=seed, limit=limit), non_mated_pairs(labels, seed=seed, limit=limit)
    return PairScores(
        mated=np.einsum("ne,ne->n", unit[mated[0]], unit[mated[1]]).astype(np.float64),
        mated_of=labels[mated[0]],
        non_mated=np.einsum("ne,ne->n", unit[non_mated[0]], unit[non_mated[1]]).astype(np.float64),
        non_mated_of=np.stack([labels[non_mated[0]], labels[non_mated[1]]], axis=1),
        identities=int(labels.max()) + 1,
    )


def _measured(run: Run, faces: Subset, *, work: Work[ScoresUnit]) -> dict[str, np.ndarray]:
    """The attributes (N,) of the faces."""
    nets = open_attribute_nets(cards(run), size=faces.rgb(0).shape[0])
    parts = []
    for row in range(len(faces)):
        parts.append(nets.measure(faces.rgb(row).transpose(2, 0, 1)[None]))
        work.progress(0)
    return {name: np.concatenate([part[name] for part in parts]) for name in nets.names}


def _with_intervals(scores: PairScores, *, seed: int, rounds: int) -> dict[str, Any]:
    bounds = statistics_intervals(scores, seed=seed, rounds=rounds)
    return {
        name: {"value": round(value, DIGITS), "interval": [round(bound, DIGITS) for bound in bounds[name]]}
        for name, value in scores.statistics().items()
    }


def _by_cell(
    config: StudyScores, scores: PairScores, by_identity: Mapping[str, np.ndarray], *, seed: int
) -> dict[str, Any]:
    """The statistics of the pairs within each label; None where there are too few identities."""
    found: dict[str, Any] = {}
    for name in config.cells:
        labels = LABELS.get(name, ())
        try:
            own = [
                category(name, {key: float(values[row]) for key, values in by_identity.items()}, labels=labels)
                for row in range(scores.identities)
            ]
        except (KeyError, ValueError):
            raise ModelError(f"{NAME}.cells: got {name!r}, which is not measured at this size; remove it") from None
        found[name] = {}
        for label in labels:
            chosen = np.array([one == label for one in own])
            try:
                inside = scores.within(chosen)
            except ModelError:
                found[name][label] = {"identities": int(chosen.sum())}
                continue
            statistics = _with_intervals(inside, seed=seed, rounds=config.rounds)
            found[name][label] = {"identities": int(chosen.sum()), **statistics}
    return found


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """All sets side by side, their divergences from the real set, and how attributes drift from portrait to picture."""
    config, folder = run.section(StudyScores), run.stage_folder(NAME)
    figures: dict[str, Any] = {"released": RELEASED, "sets": [marker.figures for marker in markers]}
    scores = {kind: _stored(folder.output(f"scores-{kind}.safetensors")) for kind in config.sets}
    if REAL in scores:
        seed = derive(run.seed, "bootstrap of divergences")
        figures["divergences"] = {
            kind: _divergence(one, scores[REAL], seed=seed, rounds=config.rounds)
            for kind, one in scores.items()
            if kind != REAL
        }
    if {PORTRAITS, SYNTHETIC} <= set(config.sets):
        figures["drift"] = _drift(run, seed=derive(run.seed, "bootstrap of drift"), rounds=config.rounds)
    return Finish(figures=figures)


def _stored(path: Any) -> PairScores:
    arrays = safetensors.numpy.load_file(path)
    names = ("mated", "mated_of", "non_mated", "non_mated_of")
    count = int(max(arrays["mated_of"].max(), arrays["non_mated_of"].max())) + 1
    return PairScores(**{name: arrays[name] for name in names}, identities=count)


def _divergence(one: PairScores, real: PairScores, *, seed: int, rounds: int) -> dict[str, Any]:
    bounds = divergence_intervals(one, real, seed=seed, rounds=rounds)
    return {
        name: {"value": round(value, DIGITS), "interval": [round(bound, DIGITS) for bound in bounds[name]]}
        for name, value in divergences(one, real).items()
    }


def _drift(run: Run, *, seed: int, rounds: int) -> dict[str, Any]:
    """The mean difference of each attribute, pictures minus portraits of the same identity, with its interval."""
    folder = run.stage_folder(NAME)
    classes: list[list[str]] = []
    arrays = []
    for kind in (PORTRAITS, SYNTHETIC):
        stored: Any = read_json(folder.output(f"scores-{kind}.json"))
        classes.append(stored["classes"])
        arrays.append(safetensors.numpy.load_file(folder.output(f"scores-{kind}.safetensors")))
    both = sorted(set(classes[0]) & set(classes[1]))
    rows = [[known.index(name) for name in both] for known in classes]
    names = sorted(name.removeprefix("attribute ") for name in arrays[0] if name.startswith("attribute "))
    moved = {name: arrays[1][f"attribute {name}"][rows[1]] - arrays[0][f"attribute {name}"][rows[0]] for name in names}
    return mean_intervals(moved, seed=seed, rounds=rounds)
