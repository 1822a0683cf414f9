"""Evaluate: verification accuracy of every net on every benchmark, and the score distributions of the sets.

Measured is the last checkpoint of a training, and nothing else: the best epoch by these very benchmarks would be
chosen on the test set (the paper's released log: 92.71 that way, 92.52 as its last epoch).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from jobs.benchmark_sets import Verification, benchmark_names, benchmark_needs, load_benchmark, verify
from jobs.embedder import WEIGHTS, embedder_files, embedder_needs, load_embedder
from jobs.generate_faces import SYNTHETIC
from jobs.score_sets import Scoring, differences, given_weights, judges_likeness, score
from jobs.seeds import derive
from jobs.shard_faces import HELD_OUT, REAL
from jobs.stage import Finish, Run, Stage, Unit
from jobs.train_recognition import NAME as RECOGNITION
from slurm.files import sha256_of
from slurm.markers import Marker

if TYPE_CHECKING:
    from cemiface.recognition import Embedder
    from jobs.rank import Rank, Work


class EvaluateRecognition(Verification, Scoring):
    """How nets are verified, and how sets are scored."""

    checkpoint: str = "last"  # of a training; said here so that nobody has to guess

    @model_validator(mode="after")
    def _check_selection(self) -> EvaluateRecognition:
        if self.checkpoint != "last":
            raise ValueError(
                f"checkpoint: got {self.checkpoint}; allowed: last; the best by a benchmark is chosen on the test set"
            )
        return self


def kinds(run: Run) -> list[str]:
    """The sets there are."""
    return [REAL, *([SYNTHETIC] if run.section("generate") is not None else [])]


def plan(run: Run) -> list[Unit]:
    """One unit per net and benchmark, and one per set to score.

    Raises:
        ConfigError: the weights of the judge or of Inception are not there.
    """
    given_weights(run)
    models = ["untrained", "embedder", *(["synthetic"] if run.section(RECOGNITION) is not None else [])]
    verifications = [{"verify": model, "on": name} for name in benchmark_names(run) for model in models]
    return [*verifications, *({"scores": kind} for kind in kinds(run))]


def needs(run: Run) -> tuple[str, ...]:
    trained = (RECOGNITION,) if run.section(RECOGNITION) is not None else ()
    generated = ["generate"] if SYNTHETIC in kinds(run) else []
    inquiries = ["identities"] if generated and judges_likeness(run, SYNTHETIC) else []
    return tuple(
        dict.fromkeys(["shard", *inquiries, *generated, *benchmark_needs(run), *embedder_needs(run), *trained])
    )


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        if "verify" in work.unit:
            _verify(run, work=work)
        else:
            score(run, work.unit["scores"], work=work)


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
    work.publish(result_name(model, name), (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    work.done(images=result["images"], counts={"embedded": result["images"]}, figures=result["figures"])


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


def _files(run: Run) -> dict[str, str]:
    return embedder_files(run) | {f"evaluate.{field}": sha256_of(path) for field, path in given_weights(run).items()}


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
            **(differences(run) if SYNTHETIC in kinds(run) else {}),
        }
    )


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
