"""Pictures by the base that has learned nobody, as study-scores compares the set with them.

Each has the prompt and the noise of a picture of the set. They lie in the stage's folder and are never published.
"""

from __future__ import annotations

import numpy as np

from cemiface.errors import ModelError
from jobs.frame.products import SYNTHETIC
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.generate.face_sampler import FaceSampler
from jobs.methods.gandiffface.study_scores.plan import NAME, UNTUNED, ScoresUnit, StudyScores
from jobs.stages.shared.sets import set_of
from jobs.stages.shared.tars import publishing_tar
from jobs.training.device import rank_device
from shards.tars.shard_set import ShardSet
from shards.tars.subset import whole_identities

TAR = f"{UNTUNED}.tar"
EACH = 4  # pictures of an identity


def chosen_pictures(labels: np.ndarray, *, images: int, seed: int) -> list[np.ndarray]:
    """The rows of the first pictures of each chosen identity, by the labels (N,) 0..L-1 of all pictures."""
    first = np.concatenate([np.flatnonzero(labels == label)[:EACH] for label in range(int(labels.max()) + 1)])
    drawn = first[whole_identities(labels[first], images=images, seed=seed)]
    return [drawn[labels[drawn] == label] for label in np.unique(labels[drawn])]


def publish_untuned(run: Run, work: Work[ScoresUnit]) -> ShardSet:
    """Sample the pictures, those of one identity in one batch, and publish those that show a face.

    Raises:
        ModelError: none does.
    """
    config, sampler = run.section(StudyScores), FaceSampler(run, device=rank_device(work.rank))
    shards, seed = set_of(run, kind=SYNTHETIC), derive(run.seed, f"identities of {UNTUNED}")
    with publishing_tar(work.path(TAR), record=work.record) as tar:
        for rows in chosen_pictures(shards.labels, images=config.untuned_images, seed=seed):
            records = [shards.record(int(row)) for row in rows]
            made = sampler.faces(
                [record["asked"] for record in records],
                seeds=[record["seed"] for record in records],
                tokens=None,
                on_step=lambda step: work.progress(0),
            )
            for place, (row, record) in enumerate(zip(rows, records, strict=True)):
                if made.values(place).get("face", 1.0) >= sampler.config.min_face:
                    kept = {name: record[name] for name in ("identity", "index", "seed", "origin", "asked")}
                    tar.add(shards.keys[row], jpg=made.jpegs[place], record=kept)
        if not tar.samples:
            raise ModelError(f"{NAME}.sets: got {UNTUNED}, but no picture of the base shows a face; remove it")
    return ShardSet([work.path(TAR)])
