"""The work of identities: collect and embed candidates, then choose those whose cosines are below the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from cemiface.errors import ModelError
from cemiface.pixels import to_unit_range
from cemiface.recognition.selection import GreedyChoice, shares
from jobs.frame.method import identity_name
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.cemiface.identities.candidates import candidate_source
from jobs.methods.cemiface.identities.plan import INQUIRIES, CandidatesUnit, MakeIdentities
from jobs.stages.shared.embedding import load_embedder
from jobs.stages.shared.tars import publishing_tar
from jobs.training.device import rank_device
from shards.embeddings.embeddings import embeddings_bytes, read_embeddings, with_similarity
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.small_files import read_lines
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter
from slurm.files import Output, publish
from slurm.markers import Marker

MAX_ATTRIBUTES = 2**26  # bytes of the file of attributes; two million candidates


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    key: str
    jpeg: bytes
    record: Mapping[str, str | int]


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the usable candidates of each block, as a tar and a file of their embeddings."""
    config = run.section(MakeIdentities)
    device = rank_device(rank)
    embedder = load_embedder(run, device=device)
    source = candidate_source(run, device=device)
    for work in rank.remaining(CandidatesUnit):
        candidates: list[_Candidate] = []
        features, flipped = [], []
        for first in range(work.unit.start, work.unit.stop, config.batch):
            numbers = range(first, min(first + config.batch, work.unit.stop))
            faces = source.faces(numbers, work=work)
            if not faces:
                continue
            jpegs = [encode_jpeg(face, quality=config.quality) for face in faces.values()]
            # Embeddings are those of the stored pixels, not of the pixels before JPEG.
            x = to_unit_range(np.stack([decode_rgb(jpeg) for jpeg in jpegs]), device=device)
            features.append(embedder(x).detach().cpu().numpy())
            flipped.append(embedder(x.flip(3)).detach().cpu().numpy())
            for number, jpeg in zip(faces, jpegs, strict=True):
                key = f"candidate-{number:07d}"
                record = {"identity": key, **source.origin(number)}
                candidates.append(_Candidate(key=key, jpeg=jpeg, record=record))
        if candidates:
            _publish_block(work, candidates, features=features, flipped=flipped, config=config)
        unusable = work.unit.stop - work.unit.start - len(candidates)
        # The counts of the stage are those of the choice; the counts of a block hold unusable candidates only.
        work.done(images=len(candidates), counts={"unusable": unusable} if unusable else {})


def _publish_block(
    work: Work[CandidatesUnit],
    candidates: Sequence[_Candidate],
    *,
    features: Sequence[np.ndarray],
    flipped: Sequence[np.ndarray],
    config: MakeIdentities,
) -> None:
    name, private = f"candidates-{work.number:05d}.tar", not config.synthetic
    with publishing_tar(work.path(name), record=work.record, private=private) as tar:
        for one in candidates:
            tar.add(one.key, jpg=one.jpeg, record=one.record)
    keys = [one.key for one in candidates]
    arrays = {"features": np.concatenate(features), "flipped": np.concatenate(flipped)}
    embedded = with_similarity(keys, identities=keys, **arrays)
    work.publish(f"candidates-{work.number:05d}.h5", embeddings_bytes(embedded, embedder=config.source))


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Choose greedily, in candidate order, and write the chosen faces and their embeddings.

    Raises:
        ModelError: the choice has fewer candidates than `count`, or the file of attributes is missing.
    """
    config = run.section(MakeIdentities)
    folder = run.stage_folder("identities")
    blocks = [folder.output(f"candidates-{marker.unit:05d}") for marker in markers if marker.images]
    candidates = sum(marker.images for marker in markers)
    chosen, groups = _choose(run, blocks=blocks)
    if len(chosen) < config.count:
        in_shares = f" in the shares of quotas {config.quotas}" if config.quotas else ""
        raise ModelError(
            f"identities: only {len(chosen)} of {candidates} candidates are pairwise below a cosine of "
            f"{config.max_cosine}{in_shares}, {config.count} are requested; raise identities.candidates or lower "
            "identities.count"
        )
    outputs: list[Output] = []
    faces, private = folder.output(f"{INQUIRIES}.tar"), not config.synthetic
    with publishing_tar(faces, record=outputs.append, replace=True, private=private) as tar:
        embedded = _write_chosen(blocks, chosen, tar=tar, embedder=config.source)
    outputs.append(publish(folder.output(f"{INQUIRIES}.h5"), embedded, replace=True))
    figures: dict[str, Any] = {"identities": len(chosen), "candidates": candidates, "source": config.source}
    if config.source == "files":
        figures["faces_are"] = config.faces_are
    if groups:
        figures["groups"] = groups
    return Finish(
        outputs=tuple(outputs),
        images_out=len(chosen),
        counts={"chosen": len(chosen), "too_similar_or_spare": candidates - len(chosen)},
        figures=figures,
    )


def _choose(run: Run, *, blocks: Sequence[Path]) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """The chosen candidates as (block, row) in order, and their number per group.

    Holds the embeddings of one block in memory at a time.
    """
    config = run.section(MakeIdentities)
    group_of = _read_attributes(run) if config.quotas else {}
    room = shares(config.quotas, count=config.count) if config.quotas else None
    counts: dict[str, int] = {}
    chosen: list[tuple[int, int]] = []
    choice: GreedyChoice | None = None
    for number, block in enumerate(blocks):
        part = read_embeddings(block.with_suffix(".h5"))
        width = part.features.shape[1]
        choice = choice or GreedyChoice(count=config.count, width=width, max_cosine=config.max_cosine, room=room)
        groups = [group_of.get(key) for key in part.keys]
        for row in choice.offer(part.features, groups=groups):
            chosen.append((number, row))
            if group := groups[row]:
                counts[group] = counts.get(group, 0) + 1
        if choice.full:
            break
    return chosen, counts


def _read_attributes(run: Run) -> dict[str, str]:
    """The group of each candidate in the file of attributes, by key.

    Raises:
        ModelError: there is no such file, or a line is not a key, a tab and a group.
    """
    config = run.section(MakeIdentities)
    path = run.path(str(config.attributes))
    if not path.is_file():
        candidates = run.stage_folder("identities").output("candidates-*.tar")
        raise ModelError(
            f"identities.attributes: got {path}, no such file; write a line `candidate-0000012<TAB>group` for the "
            f"faces in {candidates}, then run again"
        )
    groups: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, limit=MAX_ATTRIBUTES).splitlines(), start=1):
        if not line.strip():
            continue
        separator = next((one for one in "\t;," if one in line), "\t")
        key, _, group = (part.strip() for part in line.partition(separator))
        if not key or not group:
            raise ModelError(f"{path}: line {number}: got {line[:60]!r}; allowed: candidate-0000012<TAB>group; fix it")
        groups[key.removesuffix(".jpg")] = group
    return groups


def _write_chosen(blocks: Sequence[Path], chosen: Sequence[tuple[int, int]], *, tar: TarWriter, embedder: str) -> bytes:
    """Add the chosen faces to a tar; returns the content of the file of their embeddings."""
    features, flipped = [], []
    for block, rows in _by_block(chosen):
        part = read_embeddings(blocks[block].with_suffix(".h5"))
        features.append(part.features[rows])
        flipped.append(part.flipped[rows])
        shards = ShardSet([blocks[block].with_suffix(".tar")])
        for row in rows:
            key = identity_name(tar.samples)
            tar.add(key, jpg=shards.jpeg(row), record={**shards.record(row), "identity": key})
        shards.close()
    keys = [identity_name(number) for number in range(len(chosen))]
    arrays = {"features": np.concatenate(features), "flipped": np.concatenate(flipped)}
    return embeddings_bytes(with_similarity(keys, identities=keys, **arrays), embedder=embedder)


def _by_block(chosen: Sequence[tuple[int, int]]) -> Iterator[tuple[int, list[int]]]:
    for block, pairs in groupby(chosen, key=itemgetter(0)):
        yield block, [row for _, row in pairs]
