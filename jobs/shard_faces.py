"""Shard: real faces from a folder tree into private tars, every image with a fate."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jobs.seeds import derive
from jobs.stage import Finish, PathText, Run, Stage, StageConfig, Unit
from shards.errors import DataError
from shards.images import ImageRules, Prepared, prepare
from shards.sources import Face, FaceUnreadable, Listing, list_faces, read_face
from shards.tar_writer import TarWriter
from slurm.files import digest
from slurm.markers import Marker

if TYPE_CHECKING:
    from jobs.rank import Rank, Work

REAL, HELD_OUT = "real", "held-out"  # what is trained on, and what is kept for verification


class ShardFaces(StageConfig):
    faces: PathText  # a folder of identity folders of images
    image_size: int = Field(112, ge=16, le=1024)  # side of the square images, pixels
    resize: Literal["never", "center", "pad"] = "never"  # "never" refuses images of another size
    quality: int = Field(95, ge=1, le=100)  # JPEG, for images that need converting
    shard_images: int = Field(10_000, ge=1)
    held_out_identities: int = Field(0, ge=0)  # these people are never trained on
    max_bad_fraction: float = Field(0.01, ge=0, le=1)  # of a shard; more is an error, not a statistic

    def rules(self) -> ImageRules:
        return ImageRules(size=self.image_size, resize=self.resize, quality=self.quality)


def plan(run: Run) -> list[Unit]:
    """One unit per tar: a slice of the sorted list of training faces, then of the held-out ones."""
    config: ShardFaces = run.section("shard")
    units: list[Unit] = []
    for kind, faces in split(run).items():
        for number, start in enumerate(range(0, len(faces), config.shard_images)):
            part = faces[start : start + config.shard_images]
            listed = [[face.path, face.bytes] for face in part]
            units.append(
                {
                    "tar": f"{kind}-{number:05d}.tar",
                    "start": start,
                    "stop": start + len(part),
                    "faces": digest(listed),
                }
            )
    return units


def split(run: Run) -> dict[str, list[Face]]:
    """The listed faces, training and held-out identities apart; which people are held out follows from the seed.

    Raises:
        DataError: nobody would be left to train on.
    """
    config: ShardFaces = run.section("shard")
    faces = listing(run).faces
    people = sorted({face.identity for face in faces})
    if config.held_out_identities >= len(people):
        raise DataError(
            f"shard.held_out_identities: got {config.held_out_identities} of {len(people)} identities in "
            f"{config.faces}, allowed: fewer; lower it or give more faces"
        )
    chosen = random.Random(derive(run.seed, "held-out")).sample(people, config.held_out_identities)
    held_out = set(chosen)
    return {
        REAL: [face for face in faces if face.identity not in held_out],
        HELD_OUT: [face for face in faces if face.identity in held_out],
    }


def listing(run: Run) -> Listing:
    """Everything in the source folder.

    Raises:
        DataError: there is no such folder, or no face in it.
    """
    root = run.path(run.section("shard").faces)
    if not root.is_dir():
        raise DataError(f"shard.faces: got {root}, no such folder; give a folder of identity folders of images")
    return list_faces(root)


def run_rank(run: Run, rank: Rank) -> None:
    config: ShardFaces = run.section("shard")
    root, faces = run.path(config.faces), split(run)
    for work in rank.remaining():
        kind = work.unit["tar"].rpartition("-")[0]
        part = faces[kind][work.unit["start"] : work.unit["stop"]]
        _shard(root, part, work=work, config=config)


def _shard(root: Path, faces: Sequence[Face], *, work: Work, config: ShardFaces) -> None:
    """Write one tar: usable images with their records, and beside it a line for every image that is not in it."""
    counts: Counter[str] = Counter()
    rejected = []
    with work.publishing(work.unit["tar"]) as file:
        tar = TarWriter(file)
        for index, face in enumerate(faces, start=work.unit["start"]):
            prepared = _prepared(root, face, config=config)
            counts[prepared.outcome] += 1
            work.progress()
            if prepared.jpeg is None:
                rejected.append({"source": face.path, "outcome": prepared.outcome, "detail": prepared.detail})
                continue
            record = {"identity": face.identity, "source": face.path, "index": index, "outcome": prepared.outcome}
            tar.add(f"{index:09d}", jpg=prepared.jpeg, record=record)
        if len(rejected) > config.max_bad_fraction * len(faces):
            raise DataError(
                f"{work.unit['tar']}: {len(rejected)} of {len(faces)} images are not usable (first: {rejected[0]}), "
                f"allowed: a fraction of {config.max_bad_fraction}; mend them or raise shard.max_bad_fraction"
            )
        tar.close()
    work.done(images=tar.samples, counts=dict(counts), figures={"rejected": rejected})


def _prepared(root: Path, face: Face, *, config: ShardFaces) -> Prepared:
    try:
        data = read_face(root, face)
    except FaceUnreadable as error:
        return Prepared(outcome=error.outcome, detail=error.detail)
    return prepare(data, rules=config.rules())


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Count what was passed over while listing, so that the counts add up to everything in the folder."""
    faces = split(run)
    return Finish(
        counts=listing(run).skipped,
        figures={
            "identities": {kind: len({face.identity for face in part}) for kind, part in faces.items()},
            "images": {kind: len(part) for kind, part in faces.items()},
            "rejected": [line for marker in markers for line in marker.figures["rejected"]],
        },
    )


STAGE = Stage(
    name="shard",
    title="real faces into private tars",
    config=ShardFaces,
    needs=lambda run: (),
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=lambda run: sum(unit["stop"] - unit["start"] for unit in run.plan("shard")),
)
