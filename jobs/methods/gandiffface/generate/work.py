"""The work of generate: the pictures of a block of identities, as a tar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.frame.unit import SetUnit
from jobs.methods.gandiffface.generate.pictures import PictureMaker
from jobs.methods.gandiffface.generate.plan import NAME, STAGE, GeneratePictures, grammar_of, originals
from jobs.methods.gandiffface.generate.slots_reached import asked_slots, correlations, shares
from jobs.methods.gandiffface.personalize.plan import base_slots
from jobs.stages.shared.tars import add_generated, publishing_tar
from jobs.training.device import rank_device
from shards.tars.shard_set import ShardSet
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the tars of this rank."""
    config = run.section(GeneratePictures)
    maker = PictureMaker(run, device=rank_device(rank))
    for work in rank.remaining(SetUnit):
        counts: Counter[str] = Counter()
        with ExitStack() as both:
            tar = both.enter_context(publishing_tar(work.path(work.unit.tar), record=work.record))
            whole = None
            if config.originals:
                path = work.path(originals(work.unit))
                whole = both.enter_context(publishing_tar(path, record=work.record))
            for number in range(work.unit.first, min(work.unit.last + 1, len(maker.table.identities))):
                who = maker.identity(number)
                if who is None:
                    counts["no_portraits"] += config.images_per_identity
                    continue
                indices = range(config.images_per_identity)
                images, left_out = maker.pictures(who, indices, purpose="picture", work=work)
                for index in sorted(images):
                    one = images[index]
                    add_generated(tar, one, run=run)
                    if whole is not None and one.original is not None:
                        add_generated(whole, replace(one, jpeg=one.original), run=run)
                counts.update(left_out)
                work.progress(len(images))
        work.done(images=tar.samples, counts={"generated": tar.samples, **dict(sorted(counts.items()))})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """How close pictures are to their identity and to single portraits, and how often they show what was asked."""
    folder = run.stage_folder(NAME)
    shards = ShardSet([folder.output(unit.tar) for unit in run.ledger.units(STAGE)])
    records = list(shards.records())
    asked = partial(asked_slots, records, slots=base_slots(run), grammar=grammar_of(run))
    figures: dict[str, Any] = {
        "identities": len(shards.classes),
        **{key: _mean(records, key) for key in ("center_cosine", "measured_cosine", "nearest_portrait_cosine")},
        "missed_slots": _mean(records, "missed_slots"),
        "asked": shares(asked()),
        "correlations": correlations(asked(), seed=derive(run.seed, "bootstrap of asked slots")),
    }
    return Finish(figures=figures)


def _mean(records: Sequence[Mapping[str, Any]], key: str) -> float:
    return round(float(np.mean([record[key] for record in records])), 4)
