"""Scores of a set: mated and non-mated cosines, metrics of the set as a whole, and distances between two sets."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from cemiface.measures.inception import load_inception
from cemiface.measures.set_metrics import (
    TABLE_BINS,
    class_centers,
    diversity,
    frechet_distance,
    identities_by_similarity,
    moments,
    set_metrics,
)
from cemiface.recognition.nets import Embedder, load_recognition
from cemiface.recognition.scores import BINS, histogram, kl_of_histograms, mated_non_mated, wasserstein
from cemiface.recognition.verification import check_embeddings, unit_rows
from jobs.frame.products import EVALUATE, REAL, SYNTHETIC
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.stages.evaluate.plan import EvaluateRecognition, EvaluateUnit, given_weights, measures_likeness
from jobs.stages.shared.curves import cosines_by_asked
from jobs.stages.shared.embedding import embed, load_embedder
from jobs.stages.shared.sets import set_of
from jobs.training.device import rank_device
from shards.tars.records import asked_of, is_copy
from shards.tars.shard_set import ShardSet
from shards.tars.subset import Subset, whole_identities
from slurm.files import read_json

REFERENCE_IMAGES = 1000  # real faces that diversity is measured on


def score(run: Run, kind: str, *, work: Work[EvaluateUnit]) -> None:
    """Mated and non-mated cosines of a set under the evaluation net, and metrics of the set as a whole."""
    config = run.section(EvaluateRecognition)
    device = rank_device(work.rank)
    given = given_weights(run)
    if "judge.weights" in given:
        embedder = load_recognition(given["judge.weights"], color=config.judge.color).to(device)
    else:
        embedder = load_embedder(run, device=device)
    everything = set_of(run, kind=kind)
    seed = derive(run.seed, f"scored identities of {kind}")
    rows = whole_identities(everything.labels, images=config.score_images, seed=seed)
    # Copies of one face are left out: they would give mated scores of 1.
    faces = Subset(everything, np.array([row for row in rows if not is_copy(everything.record(int(row)))]))
    features, _ = embed(faces, embedder=embedder, batch=config.batch, progress=work.progress, mirror=False)
    check_embeddings(features, names=faces.keys)
    scores = mated_non_mated(features, faces.labels, seed=derive(run.seed, "score pairs"), limit=config.scores)
    result = {
        "images": len(faces),
        "figures": {
            "set": kind,
            **dataclasses.asdict(scores.statistics()),
            **dataclasses.asdict(set_metrics(features, faces.labels)),
            **(_likeness(run, everything, faces, features, embedder=embedder) if measures_likeness(run, kind) else {}),
        },
        "identities_by_similarity": _tables(everything, faces, features),
        "bins": BINS.tolist(),
        "mated": histogram(scores.mated).tolist(),
        "non_mated": histogram(scores.non_mated).tolist(),
    }
    seen = _inception(run, faces, device=device, work=work) if config.inception else {}
    result["figures"] |= {"diversity": float(seen["diversity"])} if seen else {}
    work.publish(f"scores-{kind}.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    mean, covariance = moments(unit_rows(features))
    raw = {"mated": scores.mated, "non_mated": scores.non_mated, "mean": mean, "covariance": covariance, **seen}
    work.publish(f"scores-{kind}.safetensors", safetensors.numpy.save(raw))
    work.done(images=len(faces), counts={"embedded": len(faces)}, figures=result["figures"])


def _likeness(
    run: Run, everything: ShardSet, faces: Subset, features: np.ndarray, *, embedder: Embedder
) -> dict[str, Any]:
    """Cosines under the evaluation net of generated faces to their identity's own face, by what was asked for."""
    config = run.section(EvaluateRecognition)
    path = run.method.identity_faces(run)
    assert path is not None
    own_faces = ShardSet([path])
    seen, _ = embed(own_faces, embedder=embedder, batch=config.batch, progress=lambda images: None, mirror=False)
    row_of = {key: row for row, key in enumerate(own_faces.keys)}
    records = [everything.record(int(index)) for index in faces.indices]
    own = unit_rows(seen)[[row_of[record["identity"]] for record in records]]
    cosines = np.einsum("ne,ne->n", unit_rows(features), own).tolist()
    # The key is that of older runs.
    return {"judge_cosine_to_inquiry": cosines_by_asked([asked_of(record) for record in records], cosines)}


def _inception(run: Run, faces: Subset, *, device: torch.device, work: Work[EvaluateUnit]) -> dict[str, np.ndarray]:
    """Moments of the Inception features, and the diversity of identities, measured on real faces."""
    config = run.section(EvaluateRecognition)
    net = load_inception(given_weights(run)["inception"]).to(device)
    features, _ = embed(faces, embedder=net, batch=config.batch, progress=work.progress, mirror=False)
    real = set_of(run, kind=REAL)
    draw = np.random.default_rng(derive(run.seed, "diversity reference"))
    rows = np.sort(draw.permutation(len(real))[:REFERENCE_IMAGES])
    reference, _ = embed(Subset(real, rows), embedder=net, batch=config.batch, progress=work.progress, mirror=False)
    mean, covariance = moments(features)
    return {
        "inception_mean": mean,
        "inception_covariance": covariance,
        "diversity": np.array(diversity(features, faces.labels, reference=reference)),
    }


def _tables(everything: ShardSet, faces: Subset, features: np.ndarray) -> dict[str, Any]:
    """Identities counted by mean similarity to their center, and where measured to their own face.

    As in table 7 of arXiv 2409.18876. The key of the latter, "inquiry", is that of older runs.
    """
    unit = unit_rows(features)
    to_center = np.einsum("ne,ne->n", unit, class_centers(unit, faces.labels)[faces.labels])
    table = {"bins": TABLE_BINS.tolist(), "center": identities_by_similarity(to_center, faces.labels).tolist()}
    measured = [everything.record(int(index)).get("measured_cosine") for index in faces.indices]
    if all(value is not None for value in measured):
        table["inquiry"] = identities_by_similarity(np.array(measured, np.float64), faces.labels).tolist()
    return table


def _frechet(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *, prefix: str) -> float:
    found = [(part[f"{prefix}mean"], part[f"{prefix}covariance"]) for part in (one, other)]
    return float(f"{frechet_distance(*found):.6g}")  # significant digits: scales differ between spaces


def differences(run: Run) -> dict[str, Any]:
    """Distances of the synthetic set's score and feature distributions from the real set's."""
    folder = run.stage_folder(EVALUATE)
    sets = {kind: read_json(folder.output(f"scores-{kind}.json")) for kind in (REAL, SYNTHETIC)}
    raw = {kind: safetensors.numpy.load_file(folder.output(f"scores-{kind}.safetensors")) for kind in sets}
    real, synthetic = raw[REAL], raw[SYNTHETIC]
    sides, inception = ("mated", "non_mated"), "inception_mean" in real
    return {
        "kl_synthetic_to_real": {
            side: round(kl_of_histograms(sets[SYNTHETIC][side], sets[REAL][side]), 4) for side in sides
        },
        "wasserstein_synthetic_to_real": {side: round(wasserstein(synthetic[side], real[side]), 4) for side in sides},
        "frechet_distance": _frechet(synthetic, real, prefix=""),
        **({"frechet_distance_inception": _frechet(synthetic, real, prefix="inception_")} if inception else {}),
    }
