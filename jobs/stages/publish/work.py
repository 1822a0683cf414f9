"""The work of publish: check the verdict, link the settled tars, and add the dataset card, metadata and checksums."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections import Counter
from pathlib import Path

import webdataset

from jobs.frame.ledger import again
from jobs.frame.products import AUDIT, FINGERPRINT, SETTLE, SHARD
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.verdicts import verdict_of
from jobs.stages.publish.facts import facts_of
from jobs.stages.publish.plan import PublishUnit, key_path, refusal
from jobs.stages.publish.public_verdict import public_verdict
from jobs.stages.publish.signing import allowed_signers, public_key, signature
from jobs.stages.shared.gate.certified import require_unmarked
from jobs.stages.shared.gate.lineage import AUDIT_RECORD, unchecked
from jobs.stages.shared.gate.synthetic import require_publishable
from jobs.stages.shared.tars import marked_as_synthetic
from shards.exports import standalone_verify
from shards.exports.card import ALTERATIONS, dataset_card, license_text, shard_index
from shards.exports.croissant import croissant
from shards.exports.sheets import alteration_sheet, sample_sheet
from shards.exports.standalone_verify import SIGNATURE
from shards.images.source_mark import SHEET
from shards.privacy.verdict import Verdict
from shards.tars.index import index_path
from shards.tars.manifest import MARKED, File, Manifest, Shard, describe_file, manifest_bytes
from shards.tars.reader import OpenTar
from shards.tars.shard_set import ShardSet
from slurm.certified import open_certified
from slurm.disk import disk_errors, exists, move
from slurm.errors import RunError
from slurm.files import Output, link, publish, sync_folder
from slurm.partial_files import partial_path

SHARD_LIST = "shards.txt"  # one tar per line, as WebDataset tools take it

SAMPLES = "samples.jpg"

SIGNERS = "allowed_signers"  # who signed, with the public key, as ssh-keygen takes it

INDEX = "index.json"  # tars with their counts, as WebDataset's indexed readers take it


def run_rank(run: Run, rank: Rank) -> None:
    verdict = passed_verdict(run)
    for work in rank.remaining(PublishUnit):
        folder = partial_path(rank.folder.output(work.unit.set))
        with disk_errors(folder):
            folder.mkdir(mode=0o700)
        try:
            images = _build(run, folder, verdict=verdict, work=work)
            final = rank.folder.output(work.unit.set)
            if exists(final):  # of an older attempt that was not marked: not wanted any more
                move(final, rank.folder.superseded / f"{final.name}-{secrets.token_hex(4)}")
            move(folder, final)
            sync_folder(final.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        refilled = len(verdict.refilled)
        counts = {"published": images - refilled, "dropped": len(verdict.dropped)}
        work.done(images=images, counts=counts | ({"refilled": refilled} if refilled else {}))


def passed_verdict(run: Run) -> Verdict:
    """The verdict, if it passed and is about the settled tars as they were recorded.

    Raises:
        RunError: it did not, or is not; or one of the tars is one of real faces.
    """
    verdict = verdict_of(run, stage=SETTLE)
    if verdict.missed:
        raise RunError(f"publish: the audit failed: {verdict.missed}")
    if not verdict.passed:
        raise RunError(
            f"publish: the audit failed: {len(verdict.leaked)} of {verdict.images} images are too close to real "
            f"ones; see audit/verdict.json, request other values in `{run.method.generate.name}`, or raise "
            "audit.max_dropped_fraction"
        )
    if verdict.lineage is None:
        raise RunError(
            "publish: the verdict is of an older version and does not say what the set was compared with; remove "
            f"{run.stage_folder(FINGERPRINT).root} and {run.stage_folder(AUDIT).root}, and run again"
        )
    left = unchecked(run, verdict.lineage)
    if left:
        raise RunError(refusal(left))
    run.method.check_publishable(run)
    # Here by what was recorded; the bytes are checked when they are in the published folder (`_settled`).
    present = {record.name: record.sha256 for record in run.ledger.records(SETTLE, suffix=".tar")}
    other = [tar for tar in {**present, **verdict.judged} if present.get(tar) != verdict.judged.get(tar)]
    if other:
        raise RunError(
            f"publish: the sha256 of settle/{other[0]} differs from that in the verdict; remove it and run settle again"
        )
    private = {record.sha256: record.name for record in run.ledger.records(SHARD)}
    for tar, sha256 in present.items():
        if sha256 in private:
            raise RunError(f"publish: {tar} is {private[sha256]}, a private shard of real faces; generate it again")
    return verdict


def _build(run: Run, folder: Path, *, verdict: Verdict, work: Work[PublishUnit]) -> int:
    """Fill the folder; returns the number of images in it."""
    if not verdict.judged:
        raise RunError("publish: the audit dropped every image; nothing is left to publish")
    tars = [_settled(run, tar, folder, work=work) for tar in verdict.judged]
    images = ShardSet(tars)
    for tar in tars:
        require_unmarked(tar, stage=SETTLE)
    shards = _checked(run, images, work=work)
    _check_with_webdataset(folder, shards)
    public = public_verdict(run, verdict)
    key = key_path(run)
    public_half = public_key(key)
    tarred = Manifest.of(shards, private=False, version=MARKED)
    facts = facts_of(run, verdict=public, manifest=tarred, identities=len(images.classes), signer=public_half)
    texts = {
        "README.md": dataset_card(facts).encode(),
        "croissant.json": (json.dumps(croissant(facts), indent=1) + "\n").encode(),
        AUDIT_RECORD: (json.dumps(public.public_record(), indent=1, allow_nan=False) + "\n").encode(),
        "verify.py": Path(standalone_verify.__file__).read_bytes(),
        "LICENSE.txt": license_text(facts).encode(),
        INDEX: (json.dumps(shard_index(facts), indent=1) + "\n").encode(),
        SHARD_LIST: "".join(f"{shard.name}\n" for shard in shards).encode(),
        SAMPLES: marked_as_synthetic(sample_sheet(images), key=SHEET, run=run),
    }
    if planted := public.figures.get("planted", {}).get("by_alteration"):
        sheet = alteration_sheet(images.rgb(0), list(planted))
        texts[ALTERATIONS] = marked_as_synthetic(sheet, key=SHEET, run=run)
    if public_half is not None:
        texts[SIGNERS] = allowed_signers(public_half).encode()
    files = [_file(folder, name, data, work=work) for name, data in texts.items()]
    indexes = [_index_of(run, shard.name) for shard in shards]
    manifest = Manifest.of(shards, private=False, files=[*files, *indexes], version=MARKED)
    _file(folder, "manifest.json", manifest_bytes(manifest), work=work)
    if key is not None:
        _file(folder, SIGNATURE, signature(manifest_bytes(manifest), key=key), work=work)
    return manifest.totals.samples


def _settled(run: Run, tar: str, folder: Path, *, work: Work[PublishUnit]) -> OpenTar:
    """Link a settled tar and its index into the folder. What then lies in the folder is compared with the record.

    Raises:
        RunError: it is not a regular file, or not the one that was judged.
    """
    for name in (_index_of(run, tar).name, tar):
        record = run.ledger.output_record(SETTLE, name)
        settled = run.stage_folder(SETTLE).output(name)
        link(settled, folder / name)
        opened = open_certified(folder / name, record, remedy=again(SETTLE), link_of=settled)
        work.record(Output(name=f"{work.unit.set}/{name}", bytes=record.bytes, sha256=record.sha256))
        if name != tar:
            os.close(opened)
    return OpenTar(folder / tar, descriptor=opened)


def _index_of(run: Run, tar: str) -> File:
    """The entry of a tar's index in the manifest."""
    record = run.ledger.output_record(SETTLE, index_path(Path(tar)).name)
    return File(name=record.name, bytes=record.bytes, sha256=record.sha256)


def _checked(run: Run, images: ShardSet, *, work: Work[PublishUnit]) -> list[Shard]:
    """The tars' entries in the manifest, once every image of them may be published.

    Raises:
        RunError: a record or an image has something that may not be published.
    """
    samples: Counter[str] = Counter()
    for row, key in enumerate(images.keys):
        tar = images.tar_of(row).path.name
        require_publishable(tar, key, record=images.record(row), jpeg=images.jpeg(row), seed=run.seed)
        samples[tar] += 1
        work.progress()
    records = [run.ledger.output_record(SETTLE, tar) for tar in samples]
    return [Shard(name=one.name, bytes=one.bytes, sha256=one.sha256, samples=samples[one.name]) for one in records]


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
