"""The nets of a study: training and verification of one, and the figures over all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cemiface.recognition.nets import Embedder
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.stages.shared.benchmarks import load_benchmark, verify
from jobs.stages.shared.studies.intervals import decisions_of, with_intervals
from jobs.stages.shared.studies.study import Study, StudyUnit
from jobs.stages.shared.studies.tables import GroupRows
from jobs.stages.shared.verification import benchmark_names
from jobs.training.recognition import TrainingFiles, train
from shards.tars.subset import LabeledImages
from slurm.files import Output, publish, read_json
from slurm.markers import Marker


def train_one(
    run: Run, rank: Rank, work: Work[StudyUnit], *, faces: LabeledImages, recipe: Study, figures: Mapping[str, Any]
) -> None:
    """Train the net of one group and seed, verify it on every benchmark, and publish its figures.

    Raises:
        ModelError: fewer images than a batch, or a loss that is not finite.
        Stopped: the rank was asked to stop; the work is saved.
    """
    unit = f"{work.number:03d}"
    files = TrainingFiles(
        checkpoints=rank.folder.checkpoints / unit,
        metrics=rank.folder.output(f"metrics-{unit}.jsonl"),
        key=rank.fingerprint(work.unit),
    )
    # Groups share the first weights and order of a seed, so that they differ by their images alone.
    trained = train(recipe, faces, seed=derive(run.seed, "study", work.unit.seed), rank=rank, files=files)
    net = Embedder(trained.net, recipe.recognition)
    results = {}
    for name in benchmark_names(run):
        benchmark = load_benchmark(run, name, config=recipe.verification)
        found = verify(benchmark, net, config=recipe.verification, progress=lambda _: rank.stop.check())
        results[name] = found["figures"] | {"right": found["right"]}
    kept = {
        **work.unit.as_json(),
        "images": len(faces),
        "identities": len(faces.classes),
        **figures,
        "accuracy": {name: found["accuracy"] for name, found in results.items()},
    }
    work.publish(f"net-{unit}.json", (json.dumps({**kept, "results": results}, indent=1) + "\n").encode())
    work.done(
        images=trained.images,
        counts={"trained": trained.images},
        earlier_seconds=trained.earlier_seconds,
        figures=kept,
    )
    shutil.rmtree(files.checkpoints, ignore_errors=True)


def rows_of(
    run: Run, markers: Sequence[Marker], *, name: str, groups: Sequence[str], study: Study, to_best: bool
) -> GroupRows:
    """The figures of a study's finished nets, one row per group, with gaps to the best group or to the first."""
    folder = run.stage_folder(name)
    nets = [read_json(folder.output(output.name)) for marker in markers for output in marker.outputs]
    rows = with_gaps(summarize(nets, order=groups), to_best=to_best)
    return with_intervals(rows, decisions_of(run, nets, study=study), seed=derive(run.seed, f"intervals of {name}"))


def summarize(nets: Sequence[Mapping[str, Any]], *, order: Sequence[str]) -> GroupRows:
    """Per group: the fields its nets share, and accuracy per benchmark and on average, mean and spread over seeds."""
    rows: GroupRows = []
    for group in order:
        own = sorted((net for net in nets if net["group"] == group), key=lambda net: net["seed"])
        accuracy = {name: [net["accuracy"][name] for net in own] for name in own[0]["accuracy"]}
        rows.append(
            {
                **{field: value for field, value in own[0].items() if field not in ("seed", "accuracy", "results")},
                "seeds": len(own),
                "accuracy": {name: spread(values) for name, values in accuracy.items()},
                "average": spread([float(np.mean(list(net["accuracy"].values()))) for net in own]),
            }
        )
    return rows


def with_gaps(rows: GroupRows, *, to_best: bool = False) -> GroupRows:
    """Each row with its `gap` to the first row, or to the one of the highest average accuracy, seed by seed.

    A gap is the average accuracy of that row less the row's own.
    """
    reference = max(rows, key=lambda row: row["average"]["mean"]) if to_best else rows[0]
    values = reference["average"]["values"]
    return [
        {
            **row,
            "gap": {
                "to": reference["group"],
                **spread([a - b for a, b in zip(values, row["average"]["values"], strict=True)]),
            },
        }
        for row in rows
    ]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds (None for a single one), and the values themselves."""
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "values": [float(value) for value in values],
    }


def publish_files(run: Run, files: Mapping[str, bytes], *, name: str) -> tuple[Output, ...]:
    """Publish the files that a study ends in; returns their records."""
    folder = run.stage_folder(name)
    return tuple(publish(folder.output(file), data, replace=True) for file, data in files.items())
