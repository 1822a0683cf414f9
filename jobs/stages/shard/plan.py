"""Shard: real faces into private tars; every image ends in exactly one outcome."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from jobs.frame.errors import ConfigError
from jobs.frame.products import HELD_OUT, KEPT_BACK, REAL
from jobs.frame.run import Run
from jobs.frame.stage import FORMAT, Stage
from jobs.frame.stage_config import LINE_PATTERN, PathText, StageConfig, as_before, operational
from jobs.frame.summary import read_summary
from jobs.frame.unit import Plan, Unit, read_plan
from jobs.stages.shard.losses import refuse_losses
from jobs.stages.shard.split import held_out_identities, kept_back_places, place_of, slices
from shards.errors import DataError
from shards.images.faces import Face, Listing
from shards.images.rules import ImageRules
from shards.small_files import read_lines
from shards.sources.formats import Format, FormatError
from shards.sources.selections import MAX_BYTES, read_selection, select
from shards.sources.sources import first_of_equals, list_bytes, open_source, skips_bytes, with_hashes
from slurm.files import digest, sha256_of

SKIPPED, SOURCE = "lists/skipped.tsv", "lists/source.json"  # what was passed over, and the source in figures

MANIFEST = "manifest.json"

SYNTHETIC = "say_synthetic"  # in the figures of the summary: images whose file says that they are synthetic


class ShardFaces(StageConfig):
    """Which real faces are taken, and how they become tars."""

    faces: PathText = Field(
        description=(
            "Real faces, aligned (else see `align`): a folder with one folder of images per identity, or zip, tar, "
            "RecordIO or WebDataset files of such."
        )
    )
    format: Format = Field(
        "auto",
        description=(
            "How `faces` is read: folder (identity folders), archives (zip or tar files of such), webdataset, or "
            "recordio. auto tells by the files, and refuses what can be read in two ways or would not be read. With "
            "any other value, what is not in this format is left out and counted."
        ),
        json_schema_extra=operational(),  # units name their images by a hash of the list
    )
    name: str = Field(
        "",
        max_length=200,
        pattern=LINE_PATTERN,
        description=(
            "Name of the faces as a data set, e.g. CASIA-WebFace. It is stored with the nets that are trained on them, "
            "and on the card of a published set. Empty: the set is named by its hash."
        ),
        json_schema_extra=operational(),
    )
    license: str | None = Field(
        None,
        max_length=200,
        pattern=LINE_PATTERN,
        description="License or terms of the faces, stored and shown with their name.",
        json_schema_extra=operational(),
    )
    only: PathText | None = Field(
        None,
        description=(
            "List of the images to take, as lines or a column `path`, each person/file; the rest is passed "
            "over. null: all."
        ),
    )
    image_size: int = Field(
        112,
        ge=16,
        le=1024,
        description=(
            "Side of the square images in pixels. 112 is the field's and the paper's; smaller sizes are for CPUs."
        ),
    )
    resize: Literal["never", "center", "pad"] = Field(
        "never",
        description=(
            "What to do with images of another size: never refuses them, center crops the middle square and "
            "resizes, pad adds borders and resizes."
        ),
    )
    align: bool = Field(
        False,
        description=(
            "Whether the faces are in images that are not aligned yet. A face detector finds the face, and it is cut "
            "out on the ArcFace template. An image without a face is `no_face`; one with another face of at least half "
            "the size of the largest is `many_faces`. Costs about 0.03 CPU seconds per image."
        ),
        json_schema_extra=as_before(False),
    )
    quality: int = Field(
        95,
        ge=1,
        le=100,
        description=(
            "JPEG quality, 1 to 100, of images that need converting; a JPEG of the right size is stored as it is."
        ),
    )
    shard_images: int = Field(
        10_000,
        ge=1,
        description="Images per tar, at most. A tar is one unit of work, here and in the stages that read it.",
    )
    shard_bytes: int = Field(
        2_000_000_000,
        ge=1_000_000,
        description=(
            "Bytes per tar, at most, counted as the source lists them; a tar ends at whichever limit comes first."
        ),
    )
    held_out_identities: int = Field(
        0,
        ge=0,
        description=(
            "Identities that no net is trained on; which ones follows from the seed. They serve as control "
            "group of the audit and as a verification benchmark."
        ),
    )
    kept_back_fraction: float = Field(
        0,
        ge=0,
        le=0.5,
        description=(
            "Fraction of each training identity's images, 0 to 0.5, that no net is trained on. The audit's "
            "membership test compares them with the images trained on."
        ),
    )
    max_bad_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description=(
            "Fraction of the images that may be left out, 0 to 1; more is an error. It holds for those lost while the "
            "source is listed (no identity, links, unreadable), and in each tar for those that are not usable."
        ),
    )
    hash: Literal["none", "sha256", "pixels"] = Field(
        "none",
        description=(
            "Whether images are hashed, to find equal ones and changes that keep a file's size: of their "
            "bytes (sha256) or of their pixels. Both read all files at each launch; pixels decodes them too."
        ),
    )
    duplicates: Literal["keep", "first"] = Field(
        "keep",
        description=(
            "What to do with images equal to an earlier one: keep them, or keep only the first. first needs `hash`."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> ShardFaces:
        if self.duplicates == "first" and self.hash == "none":
            raise ValueError("duplicates: got first with hash: none; allowed: hash: sha256 or pixels")
        if self.align and self.resize != "never":
            raise ValueError(f"resize: got {self.resize} with align: true; allowed: never, as aligning scales the face")
        return self

    def rules(self) -> ImageRules:
        resize = "center" if self.align else self.resize  # photos have any size
        return ImageRules(size=self.image_size, resize=resize, quality=self.quality)


@dataclass(frozen=True, kw_only=True)
class ShardUnit(Unit):
    """A tar: the images `start` to `stop` - 1 of their kind's list, which `faces` is the sha256 of."""

    tar: str
    start: int
    stop: int
    faces: str

    @property
    def images(self) -> int:
        return self.stop - self.start

    def is_of(self, kind: str) -> bool:
        """Whether it holds real training faces, held-out people, or images kept back."""
        return self.tar.startswith(f"{kind}-")


def plan(run: Run) -> Plan[ShardUnit]:
    """One unit per tar: slices of the sorted lists of training, held-out and kept-back faces.

    Raises:
        DataError: there is no such source, or no face in it.
    """
    config: ShardFaces = run.section(ShardFaces)
    if _is_gone(run.path(config.faces)):
        return Plan(units=_finished_units(run), files={})
    source, listing, equal = _listing(run)
    units: list[ShardUnit] = []
    files: dict[str, bytes] = {}
    faces = _split(run, listing)
    for kind, own in faces.items():
        for number, (start, stop) in enumerate(slices(own, images=config.shard_images, size=config.shard_bytes)):
            tar = f"{kind}-{number:05d}.tar"
            files[list_name(tar)] = data = list_bytes(own[start:stop])
            units.append(ShardUnit(tar=tar, start=start, stop=stop, faces=hashlib.sha256(data).hexdigest()))
    if config.only is None and not _planned_before(run, units):
        refuse_losses(source, allowed=config.max_bad_fraction, where=str(run.path(config.faces)))
    files[SKIPPED] = skips_bytes(listing.skipped)
    files[SOURCE] = json.dumps(_figures(listing, faces, equal=equal), indent=1).encode() + b"\n"
    return Plan(units=units, files=files)


def _planned_before(run: Run, units: list[ShardUnit]) -> bool:
    """Whether a launch has accepted these units already, perhaps one of an older version."""
    written = read_plan(run.stage_folder("shard"))
    return written is not None and written.units == [unit.as_json() for unit in units]


def _is_gone(path: Path) -> bool:
    """Whether nothing is there, not even what a file system that is not mounted leaves: an empty folder."""
    with suppress(PermissionError):  # reported when it is opened
        return not path.exists() or (path.is_dir() and next(path.iterdir(), None) is None)
    return False


def _finished_units(run: Run) -> list[ShardUnit]:
    """The units of a finished stage, whose source is not needed any more.

    Raises:
        DataError: it was not finished, or with another config.
    """
    config: ShardFaces = run.section(ShardFaces)
    folder = run.stage_folder("shard")
    summary, written = read_summary(folder), read_plan(folder)
    if summary is not None and written is not None:
        units = digest(written.units)
        wanted = {"format": FORMAT, "shard": config.fingerprint(), "seed": run.seed, "units": units}
        if wanted.items() <= summary.fingerprint.items():
            return [ShardUnit.from_json(unit) for unit in written.units]
    path = run.path(config.faces)
    found = "an empty folder" if path.exists() else "no such file or folder"
    raise DataError(f"shard.faces: got {path}, {found}; give identity folders of images")


def _listing(run: Run) -> tuple[Listing, Listing, int | None]:
    """Everything in the source; and what is taken of it, hashed and without duplicates if the config asks for it.

    Also how many images are kept that are equal to an earlier one; None if that was not looked for.
    """
    config: ShardFaces = run.section(ShardFaces)
    path = run.path(config.faces)
    try:
        source = listing = open_source(path, form=config.format).listing()
    except FormatError as error:
        raise DataError(f"shard.faces: {error}; or set shard.format: {' or '.join(error.formats)}") from None
    if config.only:
        text = read_lines(_selection(run), limit=MAX_BYTES, errors="surrogateescape")
        listing = select(listing, read_selection(text, name=config.only), name=config.only)
    if config.hash == "none":
        return source, listing, None
    rules = config.rules() if config.hash == "pixels" else None
    hashed = with_hashes(path, listing.faces, rules=rules, form=config.format)
    kept, equal = first_of_equals(hashed)
    if config.duplicates == "keep":
        return source, replace(listing, faces=tuple(one.face for one in hashed)), len(equal)
    return source, replace(listing, faces=tuple(kept), skipped=(*listing.skipped, *equal)), 0


def _selection(run: Run) -> Path:
    """The list of images to take.

    Raises:
        ConfigError: it is not there.
    """
    return run.given_file("shard.only", str(run.section(ShardFaces).only), give="a list of the images to take")


def _split(run: Run, listing: Listing) -> dict[str, list[Face]]:
    """The faces of each kind.

    Raises:
        DataError: no identity would be left to train on.
    """
    config = run.section(ShardFaces)
    identities = len(listing.images_per_identity)
    if config.held_out_identities >= identities:
        raise DataError(
            f"shard.held_out_identities: got {config.held_out_identities} of {identities} identities in "
            f"{config.faces}, allowed: fewer; lower it or give more faces"
        )
    held_out = held_out_identities(listing.faces, count=config.held_out_identities, seed=run.seed)
    training = [face for face in listing.faces if face.identity not in held_out]
    kept_back = kept_back_places(training, fraction=config.kept_back_fraction, seed=run.seed)
    return {
        REAL: [face for face in training if place_of(face) not in kept_back],
        HELD_OUT: [face for face in listing.faces if face.identity in held_out],
        KEPT_BACK: [face for face in training if place_of(face) in kept_back],
    }


def list_name(tar: str) -> str:
    """The list of the images of a tar, in the stage folder."""
    return f"lists/{tar.removesuffix('.tar')}.tsv"


def _figures(listing: Listing, faces: dict[str, list[Face]], *, equal: int | None) -> dict[str, Any]:
    """What a source holds, for the summary."""
    people = listing.images_per_identity
    return {
        "skipped": listing.counts,
        "identities": {kind: len({face.identity for face in own}) for kind, own in faces.items()},
        "images": {kind: len(own) for kind, own in faces.items()},
        "identities_without_faces": len(listing.without_faces),
        "identities_with_one_image": sum(count == 1 for count in people.values()),
        "equal_images_kept": equal,  # None: not looked for
    }


def real_units(run: Run, *, kind: str = REAL) -> list[ShardUnit]:
    """The tars of one kind of real faces."""
    return [unit for unit in run.ledger.units(STAGE) if unit.is_of(kind)]


def _check_runs(run: Run) -> None:
    """Refuse a run folder inside of the faces: it would be listed as faces."""
    faces = run.path(run.section(ShardFaces).faces)
    if run.folder.root.is_relative_to(faces):
        raise ConfigError(f"runs: got {run.config.runs}, allowed: a folder outside of shard.faces, {faces}; change it")


STAGE: Stage[ShardUnit] = Stage(
    unit=ShardUnit,
    check=_check_runs,
    name="shard",
    title="real faces into private tars",
    config=ShardFaces,
    needs=lambda run: (),
    files=lambda run: {"shard.only": sha256_of(_selection(run))} if run.section(ShardFaces).only else {},
    plan=plan,
    work="jobs.stages.shard.work",
    expected_images=lambda run: sum(unit.images for unit in run.ledger.units(STAGE)),
)
