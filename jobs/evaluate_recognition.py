"""Evaluate: verification accuracy on people nobody trained on, and the score distributions of the sets."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jobs.embed_faces import embed
from jobs.embedder import WEIGHTS, embedder_needs, load_embedder
from jobs.generate_faces import SYNTHETIC
from jobs.seeds import derive
from jobs.shard_faces import HELD_OUT, REAL
from jobs.stage import OPERATIONAL, Finish, Run, Stage, StageConfig, Unit
from jobs.train_recognition import NAME as RECOGNITION
from slurm.files import read_json
from slurm.markers import Marker

if TYPE_CHECKING:
    import numpy as np

    from cemiface.recognition import Embedder
    from jobs.rank import Rank, Work

ROC_POINTS = 200


class EvaluateRecognition(StageConfig):
    pairs: int = Field(3000, ge=10)  # of each kind, at most; mated and non-mated are equally many
    folds: int = Field(10, ge=2)
    scores: int = Field(200_000, ge=10)  # mated and non-mated scores taken of each set, at most
    batch: int = Field(256, ge=1, **OPERATIONAL)


def plan(run: Run) -> list[Unit]:
    """One unit per model to verify and one per set to score."""
    models = ["untrained", "embedder", *(["synthetic"] if run.section(RECOGNITION) is not None else [])]
    verify = [{"verify": model} for model in models] if run.section("shard").held_out_identities else []
    return [*verify, *({"scores": kind} for kind in (REAL, SYNTHETIC))]


def needs(run: Run) -> tuple[str, ...]:
    trained = (RECOGNITION,) if run.section(RECOGNITION) is not None else ()
    return ("shard", "generate", *embedder_needs(run), *trained)


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        ((kind, name),) = work.unit.items()
        result = _verify(run, name, work=work) if kind == "verify" else _score(run, name, work=work)
        work.publish(f"{kind}-{name}.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
        work.done(images=result["images"], counts={"embedded": result["images"]}, figures=result["figures"])


def _verify(run: Run, model: str, *, work: Work) -> dict[str, Any]:
    """The LFW protocol on pairs of held-out people: flip test, ten folds, threshold from the other nine."""
    import numpy as np

    from cemiface.verification import pair_similarity, roc, tar_at_far, ten_fold_accuracy
    from shards.shard_set import ShardSet

    config: EvaluateRecognition = run.section("evaluate")
    shards = ShardSet(run.outputs("shard", prefix=HELD_OUT, suffix=".tar"))
    plain, flipped = embed(shards, embedder=_model(run, model, work=work), batch=config.batch, progress=work.progress)
    first, second, same = pairs(shards.labels, config=config, seed=derive(run.seed, "verification pairs"))
    features = plain + flipped
    similarity = pair_similarity(features[first], features[second])
    accuracy = ten_fold_accuracy(similarity, same, folds=config.folds)
    curve = roc(similarity, same)
    some = np.unique(np.linspace(0, len(curve.far) - 1, ROC_POINTS).round().astype(int))
    return {
        "images": len(shards),
        "figures": {
            "model": model,
            "accuracy": accuracy.mean,
            "std": accuracy.std,
            "pairs": len(same),
            "people": len(shards.classes),
            "tar_at_far_0.01": tar_at_far(similarity, same, far=0.01),
        },
        "per_fold": accuracy.per_fold,
        "thresholds": accuracy.thresholds,
        "roc": {"far": curve.far[some].tolist(), "tar": curve.tar[some].tolist()},
    }


def pairs(labels: np.ndarray, *, config: EvaluateRecognition, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equally many mated and non-mated pairs, and in each fold as many of either kind: rows, rows, same (bool)."""
    import numpy as np

    from cemiface.scores import mated_pairs, non_mated_pairs

    mated = np.stack(mated_pairs(labels, seed=seed, limit=config.pairs))
    count = mated.shape[1] // config.folds * config.folds
    other = np.stack(non_mated_pairs(labels, seed=seed, limit=count))
    count = min(count, other.shape[1]) // config.folds * config.folds
    kinds = [np.array_split(side[:, :count], config.folds, axis=1) for side in (mated, other)]
    both = np.concatenate([part for fold in zip(*kinds, strict=True) for part in fold], axis=1)
    each = count // config.folds
    same = np.tile(np.repeat([True, False], each), config.folds)
    return both[0], both[1], same


def _model(run: Run, name: str, *, work: Work) -> Embedder:
    import torch

    from cemiface.recognition import Embedder, build_recognition, load_recognition
    from jobs.device import rank_device

    device = rank_device(work.rank)
    if name == "embedder":
        return load_embedder(run, device=device)
    if name == "synthetic":
        return load_recognition(run.stage_folder(RECOGNITION).output(WEIGHTS)).to(device)
    torch.manual_seed(derive(run.seed, "untrained net"))  # the floor every trained net is held against
    config = load_embedder(run).config
    return Embedder(build_recognition(config), config).to(device)


def _score(run: Run, kind: str, *, work: Work) -> dict[str, Any]:
    """Mated and non-mated cosines of a set under E_id."""
    from cemiface.scores import BINS, histogram, mated_non_mated
    from jobs.device import rank_device
    from jobs.train_recognition import tars
    from shards.shard_set import ShardSet

    config: EvaluateRecognition = run.section("evaluate")
    shards = ShardSet(tars(run, kind=kind))
    embedder = load_embedder(run, device=rank_device(work.rank))
    features, _ = embed(shards, embedder=embedder, batch=config.batch, progress=work.progress)
    scores = mated_non_mated(features, shards.labels, seed=derive(run.seed, "score pairs"), limit=config.scores)
    return {
        "images": len(shards),
        "figures": {"set": kind, **dataclasses.asdict(scores.statistics())},
        "bins": BINS.tolist(),
        "mated": histogram(scores.mated).tolist(),
        "non_mated": histogram(scores.non_mated).tolist(),
    }


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """All figures, and how far the synthetic score distributions are from the real ones."""
    from cemiface.scores import kl_of_histograms

    folder = run.stage_folder("evaluate")
    sets = {kind: read_json(folder.output(f"scores-{kind}.json")) for kind in (REAL, SYNTHETIC)}
    return Finish(
        figures={
            "verification": {
                marker.figures["model"]: marker.figures for marker in markers if "model" in marker.figures
            },
            "scores": {marker.figures["set"]: marker.figures for marker in markers if "set" in marker.figures},
            "kl_synthetic_to_real": {
                side: round(kl_of_histograms(sets[SYNTHETIC][side], sets[REAL][side]), 4)
                for side in ("mated", "non_mated")
            },
        }
    )


STAGE = Stage(
    name="evaluate",
    title="verification accuracy on held-out people, mated and non-mated scores",
    config=EvaluateRecognition,
    needs=needs,
    plan=plan,
    run_rank=run_rank,
    finish=finish,
)
