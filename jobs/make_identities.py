"""Identities: inquiry faces, each of which becomes one synthetic person, pairwise below a cosine of 0.3.

Where they come from is recorded per identity. `denoiser` takes unconditional samples of our own net: people who do
not exist. `real` takes one photo of each real training person (1-shot, as the paper does), which ties every synthetic
person to a real one; sets made so are for study, not for release. `files` takes the faces of a folder or archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from cemiface.errors import ModelError
from jobs.candidates import candidate_source, listed_files
from jobs.embedder import embedder_needs, load_embedder, to_unit_range
from jobs.sampling import SamplingConfig, sampling_cost
from jobs.stage import FINAL, Cost, Finish, PathText, Run, Stage, Unit
from jobs.tars import publishing_tar
from slurm.files import Output, digest, publish, sha256_of
from slurm.markers import Marker

if TYPE_CHECKING:
    from jobs.rank import Rank
    from shards.tar_writer import TarWriter

INQUIRIES = "inquiries"  # .tar with the faces, .h5 with their embeddings
Share = Annotated[float, Field(gt=0, le=1)]


class MakeIdentities(SamplingConfig):
    source: Literal["denoiser", "real", "files"] = "denoiser"
    faces: PathText | None = None  # of `files`: identity folders of images, or a zip, tar or RecordIO of such
    faces_are: Literal["real", "synthetic"] = "real"  # of `files`: whether the people in them exist
    count: int = Field(10_000, ge=1, **FINAL)  # identities wanted
    candidates: int = Field(40_000, ge=1)  # faces to choose from; "real" has one per person at most
    block: int = Field(1000, ge=1)  # candidates per unit of work
    max_cosine: float = Field(0.3, gt=-1, le=1, **FINAL)  # between any two inquiry faces (paper, section 3.2)
    # A balanced set: a file that says of candidates what group they are in (lines "candidate-0000012<TAB>group"), and
    # the share of each group. The candidates lie in the stage folder once this stage has made them.
    attributes: PathText | None = Field(None, **FINAL)
    quotas: dict[str, Share] = Field({}, **FINAL)
    batch: int = Field(32, ge=1)

    @property
    def synthetic(self) -> bool:
        """Whether the people of the inquiry faces do not exist."""
        return self.source == "denoiser" or (self.source == "files" and self.faces_are == "synthetic")

    @model_validator(mode="after")
    def _check_sources(self) -> MakeIdentities:
        if (self.faces is not None) != (self.source == "files"):
            raise ValueError(f"faces: got {self.faces} with source: {self.source}; allowed: a path for source: files")
        if bool(self.quotas) != (self.attributes is not None):
            raise ValueError("quotas: attributes and quotas belong together; give both or neither")
        if self.quotas and abs(sum(self.quotas.values()) - 1) > 1e-6:
            raise ValueError(f"quotas: got a sum of {sum(self.quotas.values()):.4f}; allowed: shares that add up to 1")
        return self


def plan(run: Run) -> list[Unit]:
    """Blocks of candidate numbers; for files with a digest of what is there, so that a change is noticed."""
    config: MakeIdentities = run.section("identities")
    if config.source == "files":
        files = listed_files(run)
        parts = [files[start : start + config.block] for start in range(0, len(files), config.block)]
        firsts = range(0, len(files), config.block)
        return [
            {
                "start": first,
                "stop": first + len(part),
                "faces": digest([[face.path, face.bytes] for face in part]),
            }
            for first, part in zip(firsts, parts, strict=True)
        ]
    starts = range(0, config.candidates, config.block)
    return [{"start": start, "stop": min(start + config.block, config.candidates)} for start in starts]


def needs(run: Run) -> tuple[str, ...]:
    stages = {"denoiser": ("train-diffusion",), "real": ("shard",), "files": ()}
    return (*stages[run.section("identities").source], *embedder_needs(run))


def run_rank(run: Run, rank: Rank) -> None:
    import numpy as np

    from jobs.device import rank_device
    from shards.embeddings import embeddings_bytes, with_similarity
    from shards.jpeg import decode_rgb, encode_jpeg

    config: MakeIdentities = run.section("identities")
    device = rank_device(rank)
    embedder = load_embedder(run, device=device)
    source = candidate_source(run, device=device)
    for work in rank.remaining():
        samples: list[tuple[str, bytes, dict[str, Any]]] = []
        features, flipped = [], []
        for first in range(work.unit["start"], work.unit["stop"], config.batch):
            numbers = range(first, min(first + config.batch, work.unit["stop"]))
            faces = source.faces(numbers, work=work)
            # Embeddings are taken of the pixels that are stored, not of those before JPEG.
            jpegs = [encode_jpeg(face, quality=config.quality) for face in faces.values()]
            if not jpegs:
                continue
            x = to_unit_range(np.stack([decode_rgb(jpeg) for jpeg in jpegs]), device=device)
            features.append(embedder(x).detach().cpu().numpy())
            flipped.append(embedder(x.flip(3)).detach().cpu().numpy())
            for number, jpeg in zip(faces, jpegs, strict=True):
                key = f"candidate-{number:07d}"
                samples.append((key, jpeg, {"identity": key, **source.origin(number)}))
        if samples:  # else no file of this block could be read, and there is nothing to write
            with publishing_tar(work.path(f"candidates-{work.number:05d}.tar"), record=work.record) as tar:
                for key, jpeg, record in samples:
                    tar.add(key, jpg=jpeg, record=record)
            keys = [key for key, _, _ in samples]
            embedded = with_similarity(
                keys, identities=keys, features=np.concatenate(features), flipped=np.concatenate(flipped)
            )
            work.publish(f"candidates-{work.number:05d}.h5", embeddings_bytes(embedded, embedder=config.source))
        unusable = work.unit["stop"] - work.unit["start"] - len(samples)
        # The stage's counts are those of its choice; a block's are made then, of what came out of it.
        work.done(images=len(samples), counts={"unusable": unusable} if unusable else {})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Choose greedily, in candidate order, and write the chosen faces and their embeddings.

    Raises:
        ModelError: fewer candidates than wanted are far enough apart, or the file of attributes is missing.
    """
    config: MakeIdentities = run.section("identities")
    folder = run.stage_folder("identities")
    blocks = [folder.output(f"candidates-{marker.unit:05d}") for marker in markers if marker.images]
    chosen, counts = _choose(run, blocks=blocks)
    candidates = sum(marker.images for marker in markers)
    if len(chosen) < config.count:
        of_groups = f" in the shares of quotas {config.quotas}" if config.quotas else ""
        raise ModelError(
            f"identities: only {len(chosen)} of {candidates} candidates are pairwise below a cosine of "
            f"{config.max_cosine}{of_groups}, wanted {config.count}; raise identities.candidates or lower "
            "identities.count"
        )
    figures: dict[str, Any] = {"identities": len(chosen), "candidates": candidates, "source": config.source}
    if config.source == "files":
        figures["faces_are"] = config.faces_are
    if counts:
        figures["groups"] = counts
    outputs: list[Output] = []
    with publishing_tar(folder.output(f"{INQUIRIES}.tar"), record=outputs.append, replace=True) as tar:
        embedded = _write_chosen(blocks, chosen, tar=tar, embedder=config.source)
    outputs.append(publish(folder.output(f"{INQUIRIES}.h5"), embedded, replace=True))
    return Finish(
        outputs=tuple(outputs),
        images_out=len(chosen),
        counts={"chosen": len(chosen), "too_similar_or_spare": candidates - len(chosen)},
        figures=figures,
    )


def _choose(run: Run, *, blocks: Sequence[Path]) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """(block, row) of each chosen candidate in order, and how many of each group; one block is in memory at a time."""
    from cemiface.selection import GreedyChoice, shares
    from shards.embeddings import read_embeddings

    config: MakeIdentities = run.section("identities")
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
    """The group of each candidate that the file of attributes tells of.

    Raises:
        ModelError: there is no such file yet, or a line is not a key, a tab and a group.
    """
    config: MakeIdentities = run.section("identities")
    path = run.path(str(config.attributes))
    if not path.is_file():
        candidates = run.stage_folder("identities").output("candidates-*.tar")
        raise ModelError(
            f"identities.attributes: got {path}, no such file; write a line `candidate-0000012<TAB>group` for the "
            f"faces in {candidates}, then run again"
        )
    groups: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        key, tab, group = line.partition("\t")
        if not tab or not group:
            raise ModelError(f"{path}: line {number}: got {line[:60]!r}; allowed: candidate-0000012<TAB>group; mend it")
        groups[key] = group.strip()
    return groups


def _write_chosen(blocks: Sequence[Path], chosen: Sequence[tuple[int, int]], *, tar: TarWriter, embedder: str) -> bytes:
    """Add the chosen faces to a tar; returns the file of their embeddings. Each block's files are opened once."""
    import numpy as np

    from shards.embeddings import embeddings_bytes, read_embeddings, with_similarity
    from shards.shard_set import ShardSet

    features, flipped = [], []
    for block, rows in _by_block(chosen):
        part = read_embeddings(blocks[block].with_suffix(".h5"))
        features.append(part.features[rows])
        flipped.append(part.flipped[rows])
        shards = ShardSet([blocks[block].with_suffix(".tar")])
        for row in rows:
            key = f"synthetic-{tar.samples:06d}"
            tar.add(key, jpg=shards.jpeg(row), record={**shards.record(row), "identity": key})
        shards.close()
    keys = [f"synthetic-{number:06d}" for number in range(len(chosen))]
    arrays = {"features": np.concatenate(features), "flipped": np.concatenate(flipped)}
    return embeddings_bytes(with_similarity(keys, identities=keys, **arrays), embedder=embedder)


def _by_block(chosen: Sequence[tuple[int, int]]) -> Iterator[tuple[int, list[int]]]:
    for block, pairs in groupby(chosen, key=itemgetter(0)):
        yield block, [row for _, row in pairs]


def _attributes(run: Run) -> dict[str, str]:
    """The digest of the file of attributes, empty while it is not there."""
    attributes = run.section("identities").attributes
    if attributes is None:
        return {}
    path = run.path(attributes)
    return {"identities.attributes": sha256_of(path) if path.is_file() else ""}


def cost(run: Run) -> Cost:
    """Of the candidates and the chosen; beside every face its embedding and that of its mirror image."""
    config: MakeIdentities = run.section("identities")
    candidates = sum(unit["stop"] - unit["start"] for unit in run.plan("identities"))
    sampled = candidates if config.source == "denoiser" else 0
    stored = sampling_cost(run, config, images=sampled, stored=candidates + config.count)
    embeddings = 8 * run.section("train-diffusion").denoiser.embedding if run.section("train-diffusion") else 0
    return replace(stored, disk_bytes=stored.disk_bytes + (candidates + config.count) * embeddings)


STAGE = Stage(
    name="identities",
    title="inquiry faces of people who do not exist, pairwise far enough apart",
    config=MakeIdentities,
    needs=needs,
    final_files=_attributes,
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=lambda run: sum(unit["stop"] - unit["start"] for unit in run.plan("identities")),
    cost=cost,
)
