"""The work of study-m: train and verify a net per m and seed on the images with that requested m."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np

from jobs.frame.products import SYNTHETIC
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.cemiface.paper_curves import finished_study
from jobs.methods.cemiface.study_m.plan import NAME, StudyM, group_names, group_of
from jobs.stages.shared.sets import tars
from jobs.stages.shared.studies.nets import train_one
from jobs.stages.shared.studies.study import StudyUnit
from shards.tars.records import is_copy
from shards.tars.shard_set import ShardSet
from shards.tars.subset import Subset
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Train and verify the nets of this rank."""
    for work in rank.remaining(StudyUnit):
        faces, similarity = _group(run, group=work.unit.group)
        figures = {"similarity": float(similarity.mean()), "similarity_std": float(similarity.std())}
        train_one(run, rank, work, faces=faces, recipe=run.section(StudyM), figures=figures)
        gc.collect()  # frees the engine of this unit, which is part of a reference cycle


def _group(run: Run, *, group: str) -> tuple[Subset, np.ndarray]:
    """The images of a group, and the measured cosine of each to its inquiry face."""
    faces = ShardSet(tars(run, kind=SYNTHETIC))
    records = list(faces.records())
    chosen = np.flatnonzero([group_of(record["m"]) == group and not is_copy(record) for record in records])
    return Subset(faces, chosen), np.array([records[row]["measured_cosine"] for row in chosen])


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Publish the table and the plot, with the paper's values beside ours."""
    return finished_study(run, markers, name=NAME, groups=group_names(run), study=run.section(StudyM))
