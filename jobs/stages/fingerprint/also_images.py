"""The images and the fingerprints of other real sets, as the ranks read them."""

from __future__ import annotations

import hashlib
from collections import Counter

from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.stages.fingerprint.also import fingerprint_files, image_source, refuse_other_net
from jobs.stages.fingerprint.plan import FingerprintFaces, FingerprintUnit
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedding import NamedImages
from shards.errors import DataError
from shards.images.faces import UnreadableFaceError
from shards.images.jpeg import decode_rgb
from shards.images.prepare import prepare
from shards.images.rules import ImageRules
from shards.privacy.fingerprints import Fingerprints, read_fingerprints
from shards.sources.sources import read_checked, read_list
from slurm.certified import read_regular


def listed_images(run: Run, work: Work[FingerprintUnit]) -> tuple[NamedImages, dict[str, int]]:
    """The images of a block, prepared as those of `shard` but at any size, and the number of unusable ones by outcome.

    Raises:
        DataError: none of them is usable, or the list is not the planned one.
    """
    unit, folder = work.unit, run.stage_folder("fingerprint")
    entry = run.section(FingerprintFaces).also[int(unit.also or 0)]
    source, config = image_source(run.path(entry.faces)), run.section(ShardFaces)
    rules = ImageRules(size=config.image_size, resize="center", quality=config.quality)
    found = NamedImages(keys=[], identities=[], images=[])
    unusable: Counter[str] = Counter()
    for face in read_list(folder.output(unit.list_name), sha256=str(unit.sha256)):
        try:
            prepared = prepare(read_checked(source, face), rules=rules)
        except UnreadableFaceError as error:
            unusable[error.outcome] += 1
            continue
        if prepared.jpeg is None:
            unusable[prepared.outcome] += 1
            continue
        found.keys.append(face.path)
        found.identities.append(face.identity)
        found.images.append(decode_rgb(prepared.jpeg))
        work.progress(0)
    if not found.images:
        raise DataError(f"fingerprint.also: {entry.name}: no usable image in block {unit.block}: {dict(unusable)}")
    return found, dict(unusable)


def given_fingerprints(run: Run, unit: FingerprintUnit, *, embedder: str, width: int) -> Fingerprints:
    """The fingerprints of a file that another run wrote.

    Raises:
        DataError: the file has changed, or its embeddings are not by this audit's net.
    """
    entry = run.section(FingerprintFaces).also[int(unit.also or 0)]
    path = fingerprint_files(run.path(entry.faces))[int(unit.block or 0)]
    data = read_regular(path)
    if hashlib.sha256(data).hexdigest() != unit.sha256:
        raise DataError(f"{path}: is not the file that was planned; rerun the same command")
    refuse_other_net(path, embedder=embedder, width=width, data=data)
    return read_fingerprints(path, data=data)
