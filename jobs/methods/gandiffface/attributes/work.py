"""The work of attributes: measure the faces of each tar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cemiface.measures.attributes import open_attribute_nets
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.gandiffface.attributes.files import FaceAttributes, attribute_bytes, read_attributes
from jobs.methods.gandiffface.attributes.plan import AttributesUnit, cards
from jobs.stages.shard.plan import ShardFaces
from shards.tars.shard_set import ShardSet
from slurm.markers import Marker

BATCH = 64  # faces between two looks at the stop flag; each goes through the nets alone


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the table of each tar."""
    nets = open_attribute_nets(cards(run), size=run.section(ShardFaces).image_size)
    for work in rank.remaining(AttributesUnit):
        shards = ShardSet([run.stage_folder("shard").output(work.unit.tar)])
        parts = []
        for first in range(0, len(shards), BATCH):
            rows = range(first, min(first + BATCH, len(shards)))
            faces = np.stack([shards.rgb(row) for row in rows])
            parts.append(nets.measure(np.ascontiguousarray(faces.transpose(0, 3, 1, 2))))
            work.progress(len(rows))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in nets.names}
        work.publish(work.unit.table, attribute_bytes(FaceAttributes(keys=shards.keys, columns=columns)))
        work.done(images=len(shards), counts={"measured": len(shards)})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Mean and spread of each attribute."""
    found = read_attributes(run).columns
    return Finish(
        figures={
            name: {
                "mean": round(float(np.nanmean(values)), 4),
                "std": round(float(np.nanstd(values)), 4),
                **{f"p{part}": round(float(np.nanpercentile(values, part)), 4) for part in (5, 50, 95)},
            }
            for name, values in sorted(found.items())
        }
    )
