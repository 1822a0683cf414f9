"""Mated and non-mated scores of a set of faces under one net, and what the set is like as a whole."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jobs.embed_faces import embed
from jobs.embedder import EmbedderConfig, load_embedder
from jobs.generate_faces import SYNTHETIC, curve_of
from jobs.make_identities import INQUIRIES
from jobs.seeds import derive
from jobs.shard_faces import REAL
from jobs.stage import OPERATIONAL, PathText, Run, StageConfig
from jobs.train_recognition import faces_of
from slurm.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from cemiface.recognition import Embedder
    from jobs.rank import Work
    from shards.shard_set import ShardSet
    from shards.subset import Subset

REFERENCE = 1000  # real faces that diversity is measured on


class Scoring(StageConfig):
    scores: int = Field(200_000, ge=10)  # mated and non-mated scores taken of each set, at most
    score_images: int = Field(50_000, ge=10)  # of larger sets as many are scored, as whole identities
    judge: EmbedderConfig = EmbedderConfig()  # the net that scores the sets; without weights it is E_id
    # Weights of Inception v3, for its Frechet distance and for diversity; without them neither is measured.
    inception: PathText | None = None
    batch: int = Field(256, ge=1, **OPERATIONAL)


def given_weights(run: Run) -> dict[str, Path]:
    """The weights files the section names, by field.

    Raises:
        ConfigError: one is not there.
    """
    config: Scoring = run.section("evaluate")
    named = {"judge.weights": config.judge.weights, "inception": config.inception}
    return {
        field: run.given_file(f"evaluate.{field}", value, give="the weights")
        for field, value in named.items()
        if value is not None
    }


def score(run: Run, kind: str, *, work: Work) -> None:
    """Mated and non-mated cosines of a set under the judge, and what the set is like as a whole."""
    import numpy as np
    import safetensors.numpy

    from cemiface.recognition import load_recognition
    from cemiface.scores import BINS, histogram, mated_non_mated
    from cemiface.set_metrics import moments, set_metrics
    from cemiface.verification import check_embeddings, unit_rows
    from jobs.device import rank_device
    from shards.subset import Subset

    config: Scoring = run.section("evaluate")
    device = rank_device(work.rank)
    given = given_weights(run)
    if "judge.weights" in given:
        embedder = load_recognition(given["judge.weights"], color=config.judge.color).to(device)
    else:
        embedder = load_embedder(run, device=device)
    everything = faces_of(run, kinds=[kind])
    seed = derive(run.seed, f"scored identities of {kind}")
    rows = whole_identities(everything.labels, images=config.score_images, seed=seed)
    # Copies of the inquiry face are no images of their own: they would make mated scores of 1.
    faces = Subset(everything, np.array([row for row in rows if "origin" not in everything.record(int(row))]))
    features, _ = embed(faces, embedder=embedder, batch=config.batch, progress=work.progress, mirror=False)
    check_embeddings(features, names=faces.keys)
    scores = mated_non_mated(features, faces.labels, seed=derive(run.seed, "score pairs"), limit=config.scores)
    result = {
        "images": len(faces),
        "figures": {
            "set": kind,
            **dataclasses.asdict(scores.statistics()),
            **dataclasses.asdict(set_metrics(features, faces.labels)),
            **(_likeness(run, everything, faces, features, embedder=embedder) if judges_likeness(run, kind) else {}),
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


def judges_likeness(run: Run, kind: str) -> bool:
    """Whether a set is of generated faces, and scored by a net that did not guide the generator."""
    return kind == SYNTHETIC and run.section("evaluate").judge.weights is not None


def _likeness(
    run: Run, everything: ShardSet, faces: Subset, features: np.ndarray, *, embedder: Embedder
) -> dict[str, list[dict[str, Any]]]:
    """The judge's cosines of generated faces to their inquiry face, by m: whether they follow it for other eyes too."""
    import numpy as np

    from cemiface.verification import unit_rows
    from shards.shard_set import ShardSet

    config: Scoring = run.section("evaluate")
    inquiries = ShardSet(run.outputs("identities", prefix=INQUIRIES, suffix=".tar"))
    seen, _ = embed(inquiries, embedder=embedder, batch=config.batch, progress=lambda images: None, mirror=False)
    row_of = {key: row for row, key in enumerate(inquiries.keys)}
    records = [everything.record(int(index)) for index in faces.indices]
    own = unit_rows(seen)[[row_of[record["identity"]] for record in records]]
    cosines = np.einsum("ne,ne->n", unit_rows(features), own).tolist()
    pairs = [(record["m"], cosine) for record, cosine in zip(records, cosines, strict=True)]
    return {"judge_cosine_to_inquiry": curve_of(pairs, asked="m")}


def _inception(run: Run, faces: Subset, *, device: torch.device, work: Work) -> dict[str, np.ndarray]:
    """Moments of the Inception features, and the diversity of the identities measured on real faces."""
    import numpy as np

    from cemiface.inception import load_inception
    from cemiface.set_metrics import diversity, moments
    from shards.subset import Subset

    config: Scoring = run.section("evaluate")
    net = load_inception(given_weights(run)["inception"]).to(device)
    features, _ = embed(faces, embedder=net, batch=config.batch, progress=work.progress, mirror=False)
    real = faces_of(run, kinds=[REAL])
    draw = np.random.default_rng(derive(run.seed, "diversity reference"))
    rows = np.sort(draw.permutation(len(real))[:REFERENCE])
    reference, _ = embed(Subset(real, rows), embedder=net, batch=config.batch, progress=work.progress, mirror=False)
    mean, covariance = moments(features)
    return {
        "inception_mean": mean,
        "inception_covariance": covariance,
        "diversity": np.array(diversity(features, faces.labels, reference=reference)),
    }


def whole_identities(labels: np.ndarray, *, images: int, seed: int) -> np.ndarray:
    """Rows of all images, or of identities drawn by the seed until another one would be too many; at least two."""
    import numpy as np

    if len(labels) <= images:
        return np.arange(len(labels))
    drawn = np.random.default_rng(seed).permutation(int(labels.max()) + 1)
    count = max(2, int((np.cumsum(np.bincount(labels)[drawn]) <= images).sum()))
    return np.flatnonzero(np.isin(labels, drawn[:count]))


def _tables(everything: ShardSet, faces: Subset, features: np.ndarray) -> dict[str, Any]:
    """Identities counted by their mean similarity, as in the paper's table 7: to the center, and to the inquiry."""
    import numpy as np

    from cemiface.set_metrics import TABLE_BINS, class_centers, identities_by_similarity
    from cemiface.verification import unit_rows

    unit = unit_rows(features)
    to_center = np.einsum("ne,ne->n", unit, class_centers(unit, faces.labels)[faces.labels])
    table = {"bins": TABLE_BINS.tolist(), "center": identities_by_similarity(to_center, faces.labels).tolist()}
    measured = [everything.record(int(index)).get("measured_cosine") for index in faces.indices]
    if all(value is not None for value in measured):
        table["inquiry"] = identities_by_similarity(np.array(measured, np.float64), faces.labels).tolist()
    return table


def _frechet(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *, prefix: str) -> float:
    from cemiface.set_metrics import frechet_distance

    found = [(part[f"{prefix}mean"], part[f"{prefix}covariance"]) for part in (one, other)]
    return float(f"{frechet_distance(*found):.6g}")  # digits that count: spaces differ in scale by orders of magnitude


def differences(run: Run) -> dict[str, Any]:
    import safetensors.numpy

    from cemiface.scores import kl_of_histograms, wasserstein

    folder = run.stage_folder("evaluate")
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
