"""Verification of a net on a benchmark by the LFW protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cemiface.recognition.gap_intervals import decisions_text, people_of_pairs
from cemiface.recognition.nets import Embedder
from cemiface.recognition.scores import mated_pairs, non_mated_pairs
from cemiface.recognition.verification import (
    check_embeddings,
    equal_error_rate,
    exact_decisions,
    k_fold_accuracy,
    pair_similarity,
    roc,
    tar_at_far,
)
from jobs.frame.products import HELD_OUT
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.stages.convert_benchmarks.plan import NAME as CONVERT
from jobs.stages.shared.embedding import embed
from jobs.stages.shared.verification import Verification, check_folds
from shards.tars.shard_set import ShardSet

ROC_POINTS = 200

FARS = (0.01, 0.001, 0.0001)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Images, and pairs of them as rows, in the order of their folds."""

    name: str
    faces: ShardSet
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: int

    def people(self) -> np.ndarray:
        """The identities (P, 2) of each pair: those of the set, or as far as paths and mated pairs tell."""
        if self.name == HELD_OUT:
            return np.stack([self.faces.labels[self.first], self.faces.labels[self.second]], axis=1)
        sources = [PurePosixPath(record.get("source", "")) for record in self.faces.records()]
        names = [source.parent.name or None for source in sources]
        return people_of_pairs(self.first, self.second, self.same, names=names)


def load_benchmark(run: Run, name: str, *, config: Verification) -> Benchmark:
    """One of `benchmark_names`.

    Raises:
        ModelError: it has fewer pairs than folds, or a fold with pairs of one kind alone.
    """
    if name == HELD_OUT:
        faces = ShardSet(run.ledger.outputs("shard", prefix=HELD_OUT, suffix=".tar"))
        seed = derive(run.seed, "verification pairs")
        first, second, same = balanced_pairs(faces.labels, config=config, seed=seed)
        return Benchmark(name=name, faces=faces, first=first, second=second, same=same, folds=config.folds)
    folder = run.stage_folder(CONVERT)
    stored: dict[str, Any] = json.loads(folder.output(f"{name}.json").read_bytes())
    folds = stored["folds"] or config.folds
    check_folds(stored["same"], folds=folds, benchmark=name)
    return Benchmark(
        name=name,
        faces=ShardSet([folder.output(f"{name}.tar")]),
        first=np.array(stored["first"], np.int64),
        second=np.array(stored["second"], np.int64),
        same=np.array(stored["same"], bool),
        folds=folds,
    )


def balanced_pairs(labels: np.ndarray, *, config: Verification, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equally many mated and non-mated pairs, and in each fold as many of either kind: rows, rows, same (bool)."""
    mated = np.stack(mated_pairs(labels, seed=seed, limit=config.pairs))
    count = mated.shape[1] // config.folds * config.folds
    other = np.stack(non_mated_pairs(labels, seed=seed, limit=count))
    count = min(count, other.shape[1]) // config.folds * config.folds
    kinds = [np.array_split(side[:, :count], config.folds, axis=1) for side in (mated, other)]
    both = np.concatenate([part for fold in zip(*kinds, strict=True) for part in fold], axis=1)
    each = count // config.folds
    same = np.tile(np.repeat([True, False], each), config.folds)
    return both[0], both[1], same


def verify(
    benchmark: Benchmark, embedder: Embedder, *, config: Verification, progress: Callable[[int], None]
) -> dict[str, Any]:
    """The LFW protocol: consecutive folds, the threshold of each from the others; figures, folds and ROC as JSON.

    Raises:
        ModelError: an embedding is not finite or zero.
    """
    plain, flipped = embed(
        benchmark.faces, embedder=embedder, batch=config.batch, progress=progress, mirror=config.flip_test
    )
    features = plain + flipped if config.flip_test else plain
    check_embeddings(features, names=benchmark.faces.keys)
    similarity = pair_similarity(features[benchmark.first], features[benchmark.second])
    accuracy = k_fold_accuracy(similarity, benchmark.same, folds=benchmark.folds)
    exact = exact_decisions(similarity, benchmark.same, folds=benchmark.folds)
    curve = roc(similarity, benchmark.same)
    some = np.unique(np.linspace(0, len(curve.far) - 1, ROC_POINTS).round().astype(int))
    return {
        "images": len(benchmark.faces),
        "figures": {
            "benchmark": benchmark.name,
            "accuracy": accuracy.mean,
            "std": accuracy.std,
            "accuracy_exact": float(exact.mean()),
            "eer": equal_error_rate(similarity, benchmark.same),
            "pairs": len(benchmark.same),
            **({"people": len(benchmark.faces.classes)} if benchmark.name == HELD_OUT else {}),
            **{f"tar_at_far_{far:g}": tar_at_far(similarity, benchmark.same, far=far) for far in FARS},
        },
        "per_fold": accuracy.per_fold,
        "thresholds": accuracy.thresholds,
        "right": decisions_text(accuracy.right),
        "right_exact": decisions_text(exact),
        "roc": {"far": curve.far[some].tolist(), "tar": curve.tar[some].tolist()},
    }
