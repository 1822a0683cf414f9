"""Other real sets that the audit compares with: their config, their units, and where their images lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from jobs.frame.errors import ConfigError
from jobs.frame.products import REAL
from jobs.frame.run import Run
from jobs.frame.stage_config import PathText, StageConfig, operational
from jobs.stages.shard.losses import warn_of_losses
from shards.errors import DataError
from shards.images.faces import Face, Source
from shards.privacy.fingerprints import data_set_of, embedder_and_width
from shards.privacy.lineage import DataSet, content_hash
from shards.small_files import read_lines
from shards.sources.archive import ArchiveSource
from shards.sources.selections import MAX_BYTES, read_selection, select
from shards.sources.sources import list_bytes, open_source
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.manifest import Manifest, Shard, read_manifest
from slurm.certified import open_regular
from slurm.files import sha256_of

BLOCK = 2000  # images per unit, all in memory


class AlsoSet(StageConfig):
    """Another set of real faces that the audit compares with."""

    name: str = Field(
        min_length=1,
        max_length=200,
        description="Name of the data set, as the lineage of the nets that were trained on it has it.",
    )
    license: str | None = Field(
        None, max_length=200, description="License or terms of the faces.", json_schema_extra=operational()
    )
    faces: PathText = Field(
        description=(
            "A folder of identity folders, zip, tar, RecordIO or WebDataset files, the folder `shard` of another run, "
            "or fingerprints that `cemiface export --fingerprints` wrote: a file, or a folder of such."
        )
    )
    only: PathText | None = Field(
        None, description="List of the images to take, as that of `shard.only`. null: all. Not for fingerprints."
    )


def fingerprint_files(path: Path) -> list[Path]:
    """The files of a set that is given as fingerprints; none if it is given as images."""
    if path.suffix == ".h5":
        return [path]
    return sorted(path.glob("*.h5")) if path.is_dir() and any(path.glob("fingerprints-*.h5")) else []


def refuse_other_net(path: Path, *, embedder: str | None, width: int | None, data: bytes | None = None) -> None:
    """Refuse fingerprints that are not by the audit's net, of which None is not known yet.

    Raises:
        DataError: they are by another one, or have another width; or the file is not our format.
    """
    found, numbers = embedder_and_width(path, data=data)
    if embedder not in (None, found):
        raise DataError(
            f"{path}: its embeddings are by the net {found}, the audit's net is {embedder}; "
            "export them again by a run whose audit has the same net"
        )
    if width not in (None, numbers):
        raise DataError(f"{path}: embeddings of {numbers} numbers, the net's have {width}")


def image_source(path: Path) -> Source:
    """The source of a set that is given as images.

    Raises:
        DataError: there is none of a known kind.
    """
    if (path / "done").is_dir() and (path / MANIFEST).is_file():  # the stage folder of another run
        return ArchiveSource([path / shard.name for shard in read_manifest(path / MANIFEST).shards])
    return open_source(path)


def _whole_manifest(path: Path) -> Manifest:
    """The manifest of another run's stage folder, all tars of which are as it names them.

    Raises:
        DataError: one is missing or has other bytes; the lineage of nets names the set by these bytes.
    """
    manifest = read_manifest(path / MANIFEST)
    for tar in manifest.shards:
        try:
            descriptor = open_regular(path / tar.name, below=path)
        except OSError as error:
            raise DataError(f"{path / tar.name}: {error.strerror}; {path / MANIFEST} names it") from None
        with os.fdopen(descriptor, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != tar.sha256:
                raise DataError(f"{path / tar.name}: is not the file that {path / MANIFEST} names; shard it again")
    return manifest


def listed_blocks(run: Run, entry: AlsoSet) -> Iterator[list[Face]]:
    """The faces of a set that is given as images, in blocks.

    Raises:
        DataError: there is no such source, or no face in it.
    """
    listing = image_source(run.path(entry.faces)).listing()
    if not entry.only:
        warn_of_losses(listing, field="fingerprint.also", where=entry.faces)
    if entry.only:
        path = run.given_file("fingerprint.also.only", entry.only, give="a list of the images to take")
        text = read_lines(path, limit=MAX_BYTES, errors="surrogateescape")
        listing = select(listing, read_selection(text, name=entry.only), name=entry.only)
    for start in range(0, len(listing.faces), BLOCK):
        yield list(listing.faces[start : start + BLOCK])


@dataclass(frozen=True, kw_only=True)
class AlsoBlock:
    """One unit of a set: a fingerprint file, or a block of images.

    Attributes:
        number: of the set, from 0.
        sha256: of the fingerprint file, or of the list of images.
        listed: the list of images; None for a fingerprint file.
        images: how many; None for a fingerprint file.
    """

    number: int
    sha256: str
    listed: bytes | None = None
    images: int | None = None


def also_blocks(run: Run, also: Sequence[AlsoSet]) -> Iterator[AlsoBlock]:
    """The units of all sets, in order.

    Raises:
        ConfigError: a set is not there.
        DataError: a set holds no face.
        RunError: a fingerprint file is a link, a folder or a FIFO.
    """
    for number, entry in enumerate(also):
        path = run.path(entry.faces)
        if not path.exists():
            raise ConfigError(f"fingerprint.also: got {path}, no such file or folder; give real faces or remove it")
        files = fingerprint_files(path)
        for file in files:
            os.close(open_regular(file))  # reading a FIFO would wait for its writer
            yield AlsoBlock(number=number, sha256=sha256_of(file))
        for faces in () if files else listed_blocks(run, entry):
            data = list_bytes(faces)
            digest = hashlib.sha256(data).hexdigest()
            yield AlsoBlock(number=number, sha256=digest, listed=data, images=len(faces))


def also_sets(run: Run, also: Sequence[AlsoSet], *, counts: Sequence[Mapping[str, int]], rehash: bool) -> list[DataSet]:
    """The data sets that are given, each with a content hash if it is the stage folder or the fingerprints of a run.

    Args:
        counts: images and identities of each set; empty before they are fingerprinted.
        rehash: compare the tars of other runs with their manifests; a launch does not wait for that.
    """
    sets = []
    for number, entry in enumerate(also):
        path = run.path(entry.faces)
        files = fingerprint_files(path)
        if files:
            found = _data_set_of(files)
        else:
            sha256 = None if entry.only else _hash_of_run(path, rehash=rehash)
            found = DataSet(name=entry.name, sha256=sha256)
        if number < len(counts):
            found = replace(found, images=counts[number]["images"], identities=counts[number]["identities"])
        sets.append(found)
    return sets


def _hash_of_run(path: Path, *, rehash: bool) -> str | None:
    """The content hash of the training faces of another run's stage folder; None for other sources."""
    if not (path / "done").is_dir() or not (path / MANIFEST).is_file():
        return None
    manifest = _whole_manifest(path) if rehash else read_manifest(path / MANIFEST)
    return content_hash((tar.name, tar.sha256) for tar in training_tars(manifest))


def _data_set_of(files: Sequence[Path]) -> DataSet:
    """The data set that fingerprint files name.

    Raises:
        DataError: they name several; then nobody knows whether one of them is complete.
    """
    found = {data_set_of(file) for file in files}
    if len(found) > 1:
        raise DataError(f"{files[0].parent}: holds fingerprints of {len(found)} data sets; give each folder by itself")
    return found.pop()


def training_tars(manifest: Manifest) -> list[Shard]:
    """The tars of training faces in the manifest of a stage folder of `shard`."""
    return [tar for tar in manifest.shards if tar.name.startswith(f"{REAL}-")]
