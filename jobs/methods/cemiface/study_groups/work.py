"""The work of study-groups: cut the real faces into groups, train and verify a net per group and seed."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np

from jobs.frame.products import EMBED, MERGED, REAL
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.cemiface.paper_curves import finished_study
from jobs.methods.cemiface.study_groups.plan import NAME, StudyGroups
from jobs.stages.shared.sets import tars
from jobs.stages.shared.studies.nets import train_one
from jobs.stages.shared.studies.study import StudyUnit
from shards.embeddings.embeddings import open_merged
from shards.errors import DataError
from shards.tars.shard_set import ShardSet
from shards.tars.subset import Subset
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Train and verify the nets of this rank."""
    config = run.section(StudyGroups)
    for work in rank.remaining(StudyUnit):
        faces, similarity = _group(run, config, group=work.unit.group)
        figures = {"similarity": float(similarity.mean()), "similarity_std": float(similarity.std())}
        train_one(run, rank, work, faces=faces, recipe=config, figures=figures)
        gc.collect()  # frees the engine of this unit, which is part of a reference cycle


def _group(run: Run, config: StudyGroups, *, group: str) -> tuple[Subset, np.ndarray]:
    """The images of a group, and the similarity of each to its identity's center."""
    faces = ShardSet(tars(run, kind=REAL))
    embedded = open_merged(run.stage_folder(EMBED).output(MERGED))
    assert embedded.keys == faces.keys
    groups = equal_groups(embedded.similarity, embedded.labels, groups=config.groups, min_images=config.min_images)
    rows = groups[config.group_names.index(group)]
    if len(rows) == 0:
        raise DataError(f"{NAME}.min_images: got {config.min_images}, and no identity has that many images; lower it")
    return Subset(faces, rows), embedded.similarity[rows]


def equal_groups(similarity: np.ndarray, labels: np.ndarray, *, groups: int, min_images: int) -> list[np.ndarray]:
    """The rows of each group: those of an identity, by falling similarity, are cut into groups of the same size.

    If the rows of an identity do not divide evenly, some groups leave out their last row. Identities with fewer than
    `min_images` rows are left out.
    """
    found: list[list[np.ndarray]] = [[] for _ in range(groups)]
    order = np.lexsort((np.arange(len(labels)), -similarity, labels))
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(rows) < min_images:
            continue
        starts = np.arange(groups) * len(rows) // groups
        for group, start in enumerate(starts):
            found[group].append(rows[start : start + len(rows) // groups])
    return [np.sort(np.concatenate(part)) if part else np.empty(0, np.int64) for part in found]


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Publish the table and the plot, with the paper's values beside ours."""
    config = run.section(StudyGroups)
    return finished_study(run, markers, name=NAME, groups=config.group_names, study=config)
