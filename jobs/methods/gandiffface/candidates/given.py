"""GAN faces that exist already as candidates: what a config says of them, and the lists of their pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from cemiface.errors import ModelError
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage_config import LINE_PATTERN, PathText, StageConfig
from jobs.stages.shard.losses import warn_of_losses
from jobs.stages.shard.plan import ShardFaces
from shards.images.faces import Face
from shards.sources.private_tars import why_real
from shards.sources.sources import list_bytes, open_pictures

FIELD = "candidates.faces"


class GivenFaces(StageConfig):
    """Faces that a GAN made elsewhere."""

    path: PathText = Field(
        description=(
            "Folder of images, folder of such folders, or zip or tar files of folders. Tars of real faces that this "
            "suite marked are refused."
        )
    )
    people: Literal["files", "folders"] = Field(
        "files",
        description=(
            "Whether every file is another person, or all files of a folder show the same one. A person of one file "
            "has portraits that are other cuts of that picture; of folders, portraits are the pictures themselves."
        ),
    )
    license: str = Field(
        min_length=1, max_length=200, pattern=LINE_PATTERN, description="License or terms of the pictures."
    )
    origin: str = Field(
        min_length=1,
        max_length=200,
        pattern=LINE_PATTERN,
        description="Where the pictures are from: the generator and who ran it, or an address.",
    )
    trained_on: str = Field(
        "",
        max_length=200,
        pattern=LINE_PATTERN,
        description=(
            "Name of the real faces that the generator was trained on, for the lineage. Empty: unknown, which the "
            "audit has to be told to accept."
        ),
    )


def people_of(run: Run, given: GivenFaces, *, count: int) -> list[tuple[Face, ...]]:
    """The pictures of each person, at most `count` people, in an order that follows from the seed.

    Raises:
        ModelError: there is no such source, it is that of the real faces, or it holds tars of real faces.
    """
    root = run.path(given.path)
    if not root.exists():
        raise ModelError(f"{FIELD}.path: got {root}, no such file or folder; give a folder of images")
    if root.resolve() == run.path(run.section(ShardFaces).faces).resolve():
        raise ModelError(f"{FIELD}.path: got {root}, the real faces of shard.faces; allowed: faces that a GAN made")
    real = why_real(root)
    if real is not None:
        raise ModelError(f"{FIELD}.path: got {root}, but {real}; allowed: faces that a GAN made")
    listing = open_pictures(root).listing()
    warn_of_losses(listing, field=FIELD, where=str(root))
    people: list[tuple[Face, ...]] = [(face,) for face in listing.faces]
    if given.people == "folders":
        people = [tuple(own) for _, own in groupby(listing.faces, key=lambda face: face.identity)]
    order = np.random.default_rng(derive(run.seed, "given faces")).permutation(len(people))
    return [people[place] for place in order[:count].tolist()]


def people_in(faces: Sequence[Face], given: GivenFaces) -> list[list[Face]]:
    """The inverse of joining the people of a list."""
    if given.people == "files":
        return [[face] for face in faces]
    return [list(own) for _, own in groupby(faces, key=lambda face: face.identity)]


def list_of(people: Sequence[Sequence[Face]]) -> tuple[bytes, str]:
    """The list of the pictures of some people, and its sha256."""
    data = list_bytes(face for own in people for face in own)
    return data, hashlib.sha256(data).hexdigest()


def described(run: Run, given: GivenFaces, *, people: int, pictures: int) -> str:
    """What `plan` says of them."""
    portraits = (
        "portraits are other cuts of the one picture of a person"
        if given.people == "files"
        else "portraits are the pictures of a person"
    )
    return (
        f"candidates: {people} people in {pictures} pictures of {Path(given.path).name} ({given.origin}; license: "
        f"{given.license}); they have no latent space, so that there are no latent edits and no directions; {portraits}"
    )
