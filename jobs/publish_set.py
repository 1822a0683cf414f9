"""Publish: the audited synthetic set as a folder that stands alone, on a machine without network or this suite."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jobs.audit_faces import verdict_of
from jobs.settle_set import SETTLE, require_synthetic
from jobs.stage import Run, Stage, StageConfig, Unit
from slurm.errors import RunError
from slurm.files import Output, link, part_path, publish, read_json, sha256_of, sync_folder

if TYPE_CHECKING:
    from jobs.rank import Rank, Work
    from shards.audit import Verdict
    from shards.card import Facts
    from shards.manifest import File, Manifest, Shard
    from shards.shard_set import ShardSet

SHARD_LIST = "shards.txt"  # one tar per line, as WebDataset tools take it
SAMPLES = "samples.jpg"
SAMPLE_ROWS, SAMPLE_COLUMNS = 8, 12
INDEX = "index.json"  # tars with their counts, as WebDataset's indexed readers take it
PRIVATE_SETTINGS = {"faces", "judge"}  # fields that tell where on the cluster private things are


class PublishSet(StageConfig):
    set_name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)  # the folder's name
    version: str = Field("1.0.0", pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")
    creator: str = Field(min_length=1)
    license: str = Field(min_length=1)  # SPDX identifier or URL
    consent: str = Field(min_length=1)  # whose faces were trained on, and on what ground


def plan(run: Run) -> list[Unit]:
    return [{"set": run.section("publish").set_name}]


def run_rank(run: Run, rank: Rank) -> None:
    verdict = passed_verdict(run)
    for work in rank.remaining():
        folder = part_path(rank.folder.output(work.unit["set"]))
        folder.mkdir(mode=0o700)
        try:
            images = _build(run, folder, verdict=verdict, work=work)
            final = rank.folder.output(work.unit["set"])
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
            "ones; see audit/verdict.json, generate at a lower m, or raise audit.max_dropped_fraction"
        )
    present = {path.name: sha256_of(path) for path in run.outputs(SETTLE, suffix=".tar") if path.is_file()}
    other = [tar for tar in {**present, **verdict.judged} if present.get(tar) != verdict.judged.get(tar)]
    if other:
        raise RunError(
            f"publish: the verdict is about other bytes than settle/{other[0]}; remove it and run settle again"
        )
    sharded = read_json(run.stage_folder("shard").summary) or {"outputs": []}
    private = {output["sha256"]: output["name"] for output in sharded["outputs"]}
    for tar, sha256 in present.items():
        if sha256 in private:
            raise RunError(f"publish: {tar} is {private[sha256]}, a private shard of real faces; generate it anew")
    return verdict


def _build(run: Run, folder: Path, *, verdict: Verdict, work: Work) -> int:
    """Fill the folder; returns the number of images in it."""
    from shards import standalone_verify
    from shards.card import croissant, dataset_card, shard_index
    from shards.manifest import Manifest, describe_file, manifest_bytes
    from shards.shard_set import ShardSet
    from shards.tar_index import index_path

    shards = [_settled(run, tar, folder, work=work) for tar in verdict.judged]
    if not shards:
        raise RunError("publish: the audit dropped every image; nothing is left to publish")
    _check_with_webdataset(folder, shards)
    images = ShardSet([folder / shard.name for shard in shards])
    facts = _facts(run, verdict=verdict, manifest=Manifest.of(shards, private=False), identities=len(images.classes))
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


def _settled(run: Run, tar: str, folder: Path, *, work: Work) -> Shard:
    """A second name for a settled tar: what was judged and what is published are one file.

    Raises:
        RunError: a record in it is not one of a synthetic image.
    """
    from shards.manifest import describe_file, describe_shard
    from shards.shard_set import ShardSet
    from shards.tar_index import index_path

    source = run.stage_folder(SETTLE).output(tar)
    images = ShardSet([source])
    for key, record in zip(images.keys, images.records(), strict=True):
        require_synthetic(tar, key, record)
    work.progress(len(images))
    for path in (source, index_path(source)):
        link(path, folder / path.name)
    shard = describe_shard(folder / tar, samples=len(images))
    for file in (shard, describe_file(index_path(folder / tar), folder=folder)):
        work.record(Output(name=f"{work.unit['set']}/{file.name}", bytes=file.bytes, sha256=file.sha256))
    return shard


def _file(folder: Path, name: str, data: bytes, *, work: Work) -> File:
    from shards.manifest import describe_file

    written = publish(folder / name, data)
    work.record(Output(name=f"{work.unit['set']}/{name}", bytes=written.bytes, sha256=written.sha256))
    return describe_file(folder / name, folder=folder)


def _check_with_webdataset(folder: Path, shards: list[Shard]) -> None:
    """What is published must read with plain `webdataset`, the library its users have.

    Raises:
        RunError: it finds another number of samples in a tar than were written.
    """
    import webdataset

    for shard in shards:
        # No .decode(): that would run pickles. Samples are counted undecoded.
        found = sum(1 for _ in webdataset.WebDataset(str(folder / shard.name), shardshuffle=False))
        if found != shard.samples:
            raise RunError(f"publish: webdataset reads {found} samples of {shard.name}, written were {shard.samples}")


def _sample_sheet(shards: ShardSet) -> bytes:
    """A sheet of the set: one person per row, rising m from left to right."""
    import numpy as np

    from shards.jpeg import encode_jpeg

    records = list(shards.records())
    people = shards.classes[:: max(1, len(shards.classes) // SAMPLE_ROWS)][:SAMPLE_ROWS]
    blank = np.full_like(shards.rgb(0), 255)
    rows = []
    for person in people:
        own = sorted((record["m"], row) for row, record in enumerate(records) if record["identity"] == person)
        picked = [own[place][1] for place in np.linspace(0, len(own) - 1, SAMPLE_COLUMNS).round().astype(int)]
        rows.append(np.concatenate([shards.rgb(row) for row in dict.fromkeys(picked)], axis=1))
        missing = SAMPLE_COLUMNS - len(dict.fromkeys(picked))
        if missing:
            rows[-1] = np.concatenate([rows[-1], *[blank] * missing], axis=1)
    return encode_jpeg(np.concatenate(rows), quality=92)


def _facts(run: Run, *, verdict: Verdict, manifest: Manifest, identities: int) -> Facts:
    from shards.card import Facts

    config: PublishSet = run.section("publish")
    generate = read_json(run.stage_folder("generate").summary)
    evaluate = read_json(run.stage_folder("evaluate").summary) or {"figures": {}}
    sections = ("shard", "train-diffusion", "identities", "generate", "train-recognition")
    return Facts(
        name=config.set_name,
        version=config.version,
        # The day the faces were made, so that the same set published again is the same folder.
        date=time.strftime("%Y-%m-%d", time.gmtime(generate["ended"])),
        creator=config.creator,
        summary=(
            "Synthetic faces made with CemiFace (NeurIPS 2024): a diffusion model conditioned on an identity and on a "
            "wished similarity m to it. Identities come from: " + run.section("identities").source + "."
        ),
        license=config.license,
        consent=config.consent,
        size=run.section("shard").image_size,
        identities=identities,
        seed=run.seed,
        config={name: _settings(run, name) for name in sections if run.section(name) is not None},
        metrics=_metrics(evaluate["figures"]),
        limits=_limits(verdict),
        verdict=verdict,
        manifest=manifest,
    )


def _metrics(figures: dict[str, Any]) -> dict[str, float]:
    """What evaluation found, under names a reader of the card understands."""
    found = {
        f"accuracy on held-out people, {net}": row["accuracy"] for net, row in figures.get("verification", {}).items()
    }
    found |= {f"average accuracy on benchmarks, {net}": value for net, value in figures.get("average", {}).items()}
    scores = figures.get("scores", {}).get("synthetic", {})
    names = {"eer": "EER of the set", "fmr100": "FMR100 of the set", "fisher": "Fisher ratio of the set"}
    return found | {text: scores[name] for name, text in names.items() if name in scores}


def _settings(run: Run, stage: str) -> dict[str, Any]:
    """The stage's settings as they may leave the cluster."""
    fields: dict[str, Any] = run.section(stage).fingerprint()
    return {name: value for name, value in fields.items() if name not in PRIVATE_SETTINGS}


def _limits(verdict: Verdict) -> list[str]:
    judge = (
        "Audited with one recognition net: what it cannot tell apart, the audit cannot either."
        if verdict.independent
        else "Audited with the recognition net that also guided the generator: what it cannot tell apart, neither can "
        "the audit, and it may see its own idea of likeness."
    )
    return [
        "Similarity m is a wish; the similarity that was measured stands in every record.",
        judge,
        "Demographics follow the real training faces and were neither measured nor balanced.",
        "No detector looked at the faces that were trained on or at these images: none, several or a crooked one in a "
        "picture would not have been noticed.",
    ]


STAGE = Stage(
    name="publish",
    title="the audited set as a folder that stands alone",
    config=PublishSet,
    needs=lambda run: ("generate", SETTLE, *(("evaluate",) if run.asks_for("evaluate") else ())),
    plan=plan,
    run_rank=run_rank,
)
