"""Evaluate: verification accuracy of every net on every benchmark, and the score distributions of the sets.

Measured is the last checkpoint of a training, and nothing else: the best epoch by these very benchmarks would be
chosen on the test set (the paper's released log: 92.71 that way, 92.52 as its last epoch).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jobs.benchmark_sets import Verification, benchmark_names, benchmark_needs, load_benchmark, verify
from jobs.embed_faces import embed
from jobs.embedder import WEIGHTS, EmbedderConfig, embedder_files, embedder_needs, load_embedder
from jobs.generate_faces import SYNTHETIC
from jobs.seeds import derive
from jobs.shard_faces import HELD_OUT, REAL
from jobs.stage import Finish, Run, Stage, Unit
from jobs.train_recognition import NAME as RECOGNITION
from jobs.train_recognition import faces_of
from jobs.yaml_file import ConfigError
from slurm.files import read_json, sha256_of
from slurm.markers import Marker

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from cemiface.recognition import Embedder
    from jobs.rank import Rank, Work
    from shards.shard_set import ShardSet


class EvaluateRecognition(Verification):
    scores: int = Field(200_000, ge=10)  # mated and non-mated scores taken of each set, at most
    score_images: int = Field(50_000, ge=10)  # of larger sets as many are scored, as whole identities
    judge: EmbedderConfig = EmbedderConfig()  # the net that scores the sets; without weights it is E_id


def kinds(run: Run) -> list[str]:
    """The sets there are."""
    return [REAL, *([SYNTHETIC] if run.section("generate") is not None else [])]


def plan(run: Run) -> list[Unit]:
    """One unit per net and benchmark, and one per set to score.

    Raises:
        ConfigError: the judge's weights are not there.
    """
    _judge_path(run)
    models = ["untrained", "embedder", *(["synthetic"] if run.section(RECOGNITION) is not None else [])]
    verifications = [{"verify": model, "on": name} for name in benchmark_names(run) for model in models]
    return [*verifications, *({"scores": kind} for kind in kinds(run))]


def needs(run: Run) -> tuple[str, ...]:
    trained = (RECOGNITION,) if run.section(RECOGNITION) is not None else ()
    generated = ("generate",) if SYNTHETIC in kinds(run) else ()
    return tuple(dict.fromkeys(["shard", *generated, *benchmark_needs(run), *embedder_needs(run), *trained]))


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        if "verify" in work.unit:
            _verify(run, work=work)
        else:
            _score(run, work.unit["scores"], work=work)


def result_name(model: str, benchmark: str) -> str:
    """The file with the result of a net on a benchmark."""
    return f"verify-{model}.json" if benchmark == HELD_OUT else f"verify-{model}-{benchmark}.json"


def _verify(run: Run, *, work: Work) -> None:
    config: EvaluateRecognition = run.section("evaluate")
    model, name = work.unit["verify"], work.unit["on"]
    benchmark = load_benchmark(run, name, config=config)
    embedder = _model(run, model, work=work)
    result = verify(benchmark, embedder, config=config, progress=work.progress)
    result["figures"]["model"] = model
    _publish_json(work, result_name(model, name), result)
    work.done(images=result["images"], counts={"embedded": result["images"]}, figures=result["figures"])


def _publish_json(work: Work, name: str, value: Any) -> None:
    work.publish(name, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


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


def _judge_path(run: Run) -> Path | None:
    judge = run.section("evaluate").judge.weights
    if judge is None:
        return None
    path = run.path(judge)
    if not path.is_file():
        raise ConfigError(
            f"evaluate.judge.weights: got {path}, no such file; give a recognition net's weights or remove it"
        )
    return path


def _files(run: Run) -> dict[str, str]:
    judge = _judge_path(run)
    return embedder_files(run) | ({"evaluate.judge.weights": sha256_of(judge)} if judge else {})


def _score(run: Run, kind: str, *, work: Work) -> None:
    """Mated and non-mated cosines of a set under the judge, and what the set is like as a whole."""
    import numpy as np
    import safetensors.numpy

    from cemiface.recognition import load_recognition
    from cemiface.scores import BINS, histogram, mated_non_mated
    from cemiface.set_metrics import moments, set_metrics
    from cemiface.verification import check_embeddings, unit_rows
    from jobs.device import rank_device
    from shards.subset import Subset

    config: EvaluateRecognition = run.section("evaluate")
    device = rank_device(work.rank)
    judge = _judge_path(run)
    embedder = load_embedder(run, device=device)
    if judge is not None:
        embedder = load_recognition(judge, color=config.judge.color).to(device)
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
        },
        "identities_by_similarity": _tables(everything, faces, features),
        "bins": BINS.tolist(),
        "mated": histogram(scores.mated).tolist(),
        "non_mated": histogram(scores.non_mated).tolist(),
    }
    _publish_json(work, f"scores-{kind}.json", result)
    mean, covariance = moments(unit_rows(features))
    raw = {"mated": scores.mated, "non_mated": scores.non_mated, "mean": mean, "covariance": covariance}
    work.publish(f"scores-{kind}.safetensors", safetensors.numpy.save(raw))
    work.done(images=len(faces), counts={"embedded": len(faces)}, figures=result["figures"])


def whole_identities(labels: np.ndarray, *, images: int, seed: int) -> np.ndarray:
    """Rows of all images, or of identities drawn by the seed until another one would be too many; at least two."""
    import numpy as np

    if len(labels) <= images:
        return np.arange(len(labels))
    drawn = np.random.default_rng(seed).permutation(int(labels.max()) + 1)
    count = max(2, int((np.cumsum(np.bincount(labels)[drawn]) <= images).sum()))
    return np.flatnonzero(np.isin(labels, drawn[:count]))


def _tables(everything: ShardSet, faces: Any, features: np.ndarray) -> dict[str, Any]:
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


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """All figures, and how far the synthetic score distributions are from the real ones."""
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
            "scores": {marker.figures["set"]: marker.figures for marker in markers if "set" in marker.figures},
            **(_differences(run) if SYNTHETIC in kinds(run) else {}),
        }
    )


def _differences(run: Run) -> dict[str, Any]:
    import safetensors.numpy

    from cemiface.scores import kl_of_histograms, wasserstein
    from cemiface.set_metrics import frechet_distance

    folder = run.stage_folder("evaluate")
    sets = {kind: read_json(folder.output(f"scores-{kind}.json")) for kind in (REAL, SYNTHETIC)}
    raw = {kind: safetensors.numpy.load_file(folder.output(f"scores-{kind}.safetensors")) for kind in sets}
    real, synthetic = raw[REAL], raw[SYNTHETIC]
    sides = ("mated", "non_mated")
    return {
        "kl_synthetic_to_real": {
            side: round(kl_of_histograms(sets[SYNTHETIC][side], sets[REAL][side]), 4) for side in sides
        },
        "wasserstein_synthetic_to_real": {side: round(wasserstein(synthetic[side], real[side]), 4) for side in sides},
        "frechet_distance": round(
            frechet_distance(*((part["mean"], part["covariance"]) for part in (synthetic, real))), 4
        ),
    }


STAGE = Stage(
    name="evaluate",
    title="verification accuracy, mated and non-mated scores, set metrics",
    config=EvaluateRecognition,
    needs=needs,
    files=_files,
    plan=plan,
    run_rank=run_rank,
    finish=finish,
)
