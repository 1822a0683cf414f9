"""The work of publish: check the verdict, link the settled tars, and add the dataset card, metadata and checksums."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import numpy as np
import webdataset

from jobs.frame.products import SETTLE, SHARD
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.verdicts import verdict_of
from jobs.stages.publish.facts import facts_of
from jobs.stages.publish.plan import PublishUnit
from jobs.stages.shared.synthetic import require_synthetic
from shards.exports import standalone_verify
from shards.exports.card import dataset_card, shard_index
from shards.exports.croissant import croissant
from shards.images.jpeg import encode_jpeg
from shards.privacy.verdict import Verdict
from shards.tars.index import index_path
from shards.tars.manifest import File, Manifest, Shard, describe_file, describe_shard, manifest_bytes
from shards.tars.records import asked_of, sort_key
from shards.tars.shard_set import ShardSet
from slurm.errors import RunError
from slurm.files import Output, link, publish, sha256_of, sync_folder
from slurm.partial_files import partial_path

SHARD_LIST = "shards.txt"  # one tar per line, as WebDataset tools take it

SAMPLES = "samples.jpg"

SAMPLE_ROWS, SAMPLE_COLUMNS = 8, 12

INDEX = "index.json"  # tars with their counts, as WebDataset's indexed readers take it


def run_rank(run: Run, rank: Rank) -> None:
    verdict = passed_verdict(run)
    for work in rank.remaining(PublishUnit):
        folder = partial_path(rank.folder.output(work.unit.set))
        folder.mkdir(mode=0o700)
        try:
            images = _build(run, folder, verdict=verdict, work=work)
            final = rank.folder.output(work.unit.set)
            if final.exists():  # of an older attempt that was not marked: not wanted any more
                rank.folder.superseded.mkdir(exist_ok=True)
                os.rename(final, rank.folder.superseded / f"{final.name}-{secrets.token_hex(4)}")
            os.rename(folder, final)
            sync_folder(final.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        refilled = len(verdict.refilled)
        counts = {"published": images - refilled, "dropped": len(verdict.dropped)}
        work.done(images=images, counts=counts | ({"refilled": refilled} if refilled else {}))


def passed_verdict(run: Run) -> Verdict:
    """The verdict, if it passed and is about the settled tars as they are now, byte for byte.

    Raises:
        RunError: it did not, or is not; or one of the tars is one of real faces.
    """
    verdict = verdict_of(run, stage=SETTLE)
    if not verdict.passed:
        raise RunError(
            f"publish: the audit failed: {len(verdict.leaked)} of {verdict.images} images are too close to real "
            f"ones; see audit/verdict.json, request other values in `{run.method.generate.name}`, or raise "
            "audit.max_dropped_fraction"
        )
    present = {path.name: sha256_of(path) for path in run.ledger.outputs(SETTLE, suffix=".tar") if path.is_file()}
    other = [tar for tar in {**present, **verdict.judged} if present.get(tar) != verdict.judged.get(tar)]
    if other:
        raise RunError(
            f"publish: the sha256 of settle/{other[0]} differs from that in the verdict; remove it and run settle again"
        )
    sharded = run.ledger.summary(SHARD)
    private = {output.sha256: output.name for output in sharded.outputs} if sharded else {}
    for tar, sha256 in present.items():
        if sha256 in private:
            raise RunError(f"publish: {tar} is {private[sha256]}, a private shard of real faces; generate it again")
    return verdict


def _build(run: Run, folder: Path, *, verdict: Verdict, work: Work[PublishUnit]) -> int:
    """Fill the folder; returns the number of images in it."""
    shards = [_settled(run, tar, folder, work=work) for tar in verdict.judged]
    if not shards:
        raise RunError("publish: the audit dropped every image; nothing is left to publish")
    _check_with_webdataset(folder, shards)
    images = ShardSet([folder / shard.name for shard in shards])
    facts = facts_of(run, verdict=verdict, manifest=Manifest.of(shards, private=False), identities=len(images.classes))
    texts = {
        "README.md": dataset_card(facts).encode(),
        "croissant.json": (json.dumps(croissant(facts), indent=1) + "\n").encode(),
        "audit.json": (json.dumps(verdict.public_record(), indent=1, allow_nan=False) + "\n").encode(),
        "verify.py": Path(standalone_verify.__file__).read_bytes(),
        "LICENSE.txt": f"{facts.license}\n\n{facts.consent}\n".encode(),
        INDEX: (json.dumps(shard_index(facts), indent=1) + "\n").encode(),
        SHARD_LIST: "".join(f"{shard.name}\n" for shard in shards).encode(),
        SAMPLES: _sample_sheet(images),
    }
    files = [_file(folder, name, data, work=work) for name, data in texts.items()]
    indexes = [describe_file(index_path(folder / shard.name), folder=folder) for shard in shards]
    manifest = Manifest.of(shards, private=False, files=[*files, *indexes])
    _file(folder, "manifest.json", manifest_bytes(manifest), work=work)
    return manifest.totals.samples


def _settled(run: Run, tar: str, folder: Path, *, work: Work[PublishUnit]) -> Shard:
    """Link a settled tar into the folder, so that the file that was audited is the file that is published.

    Raises:
        RunError: a record in it is not one of a synthetic image.
    """
    source = run.stage_folder(SETTLE).output(tar)
    images = ShardSet([source])
    for key, record in zip(images.keys, images.records(), strict=True):
        require_synthetic(tar, key, record)
    work.progress(len(images))
    for path in (source, index_path(source)):
        link(path, folder / path.name)
    shard = describe_shard(folder / tar, samples=len(images))
    for file in (shard, describe_file(index_path(folder / tar), folder=folder)):
        work.record(Output(name=f"{work.unit.set}/{file.name}", bytes=file.bytes, sha256=file.sha256))
    return shard


def _file(folder: Path, name: str, data: bytes, *, work: Work[PublishUnit]) -> File:
    written = publish(folder / name, data)
    work.record(Output(name=f"{work.unit.set}/{name}", bytes=written.bytes, sha256=written.sha256))
    return describe_file(folder / name, folder=folder)


def _check_with_webdataset(folder: Path, shards: list[Shard]) -> None:
    """What is published must read with plain `webdataset`, the library its users have.

    Raises:
        RunError: it finds another number of samples in a tar than were written.
    """
    for shard in shards:
        # No .decode(): that would run pickles. Samples are counted undecoded.
        found = sum(1 for _ in webdataset.WebDataset(str(folder / shard.name), shardshuffle=False))
        if found != shard.samples:
            raise RunError(f"publish: webdataset reads {found} samples of {shard.name}, written were {shard.samples}")


def _sample_sheet(shards: ShardSet) -> bytes:
    """A sheet of the set: one person per row, ordered by what was asked of the images."""
    records = list(shards.records())
    people = shards.classes[:: max(1, len(shards.classes) // SAMPLE_ROWS)][:SAMPLE_ROWS]
    blank = np.full_like(shards.rgb(0), 255)
    rows = []
    for person in people:
        own = sorted(
            (sort_key(asked_of(record)), row) for row, record in enumerate(records) if record["identity"] == person
        )
        picked = [own[place][1] for place in np.linspace(0, len(own) - 1, SAMPLE_COLUMNS).round().astype(int)]
        rows.append(np.concatenate([shards.rgb(row) for row in dict.fromkeys(picked)], axis=1))
        missing = SAMPLE_COLUMNS - len(dict.fromkeys(picked))
        if missing:
            rows[-1] = np.concatenate([rows[-1], *[blank] * missing], axis=1)
    return encode_jpeg(np.concatenate(rows), quality=92)
