"""The work of generate: sample the images of a block of identities into a tar."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from jobs.frame.method import GeneratedImage, ImageRequest, identity_name
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.frame.unit import SetUnit
from jobs.methods.cemiface.generate.face_generator import FaceGenerator, pipelined
from jobs.methods.cemiface.generate.plan import STAGE, GenerateFaces
from jobs.methods.cemiface.generate.requests import requests_of
from jobs.methods.cemiface.identities.plan import INQUIRIES
from jobs.stages.shared.curves import curve_of
from jobs.stages.shared.resumable_tar import resumable_tar
from jobs.stages.shared.tars import add_generated
from jobs.training.device import rank_device
from shards.embeddings.embeddings import read_embeddings
from shards.tars.records import SYNTHETIC, is_copy
from shards.tars.shard_set import ShardSet
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the tars of this rank; a tar that was interrupted is resumed after its last saved image."""
    config = run.section(GenerateFaces)
    folder = run.stage_folder("identities")
    embedded = torch.from_numpy(read_embeddings(folder.output(f"{INQUIRIES}.h5")).features)
    inquiries = ShardSet([folder.output(f"{INQUIRIES}.tar")])
    generator = FaceGenerator(run, embedded=embedded, device=rank_device(rank))
    for work in rank.remaining(SetUnit):
        block = range(work.unit.first, work.unit.last + 1)
        requests = requests_of(config, block, identities=len(embedded), seed=run.seed)
        with generator, resumable_tar(work, work.unit.tar) as tar:
            starts = range(tar.samples, len(requests), config.batch)
            parts = (requests[start : start + config.batch] for start in starts)
            # The encoders compress one batch while the next one is sampled.
            for batch in pipelined(generator.sample(part, work=work) for part in parts):
                for image in generator.measure(batch):
                    add_generated(tar, image, run=run)
                work.progress(len(batch.requests))
            for identity, number in product(block, range(config.inquiry_copies)):
                copy = ImageRequest(identity=identity, index=config.images_per_identity + number)
                record = _record_of_copy(copy, target=config.target)
                image = GeneratedImage(request=copy, jpeg=inquiries.jpeg(identity), record=record)
                add_generated(tar, image, run=run)
        copies = len(block) * config.inquiry_copies
        work.done(images=tar.samples, counts={"generated": len(requests)} | ({"copied": copies} if copies else {}))


def _record_of_copy(copy: ImageRequest, *, target: str) -> dict[str, Any]:
    """The record of a copy of an inquiry face, whose cosine to that face is 1."""
    name = identity_name(copy.identity)
    return {
        "identity": name,
        "index": copy.index,
        "origin": SYNTHETIC,
        "asked": {target: 1.0},
        "copy_of": name,
        "m": 1.0,
        "measured_cosine": 1.0,
    }


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """The figures: mean, standard deviation and count of measured cosines by requested m, and by requested cosine."""
    folder = run.stage_folder("generate")
    shards = ShardSet([folder.output(unit.tar) for unit in run.ledger.units(STAGE)])
    records = [record for record in shards.records() if not is_copy(record)]
    figures: dict[str, Any] = {
        "identities": len(shards.classes),
        "measured_cosine": curve_of([(record["m"], record["measured_cosine"]) for record in records], asked="m"),
    }
    if run.section(GenerateFaces).target == "cosine":
        requested = [(record["wished_cosine"], record["measured_cosine"]) for record in records]
        figures["wished_cosine"] = curve_of(requested, asked="cosine")
    return Finish(figures=figures)
