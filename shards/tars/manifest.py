"""The manifest: all files of a data set with their sizes and hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shards import strict_json
from shards.errors import DataError, shown
from shards.small_files import read_whole

NAME = "manifest.json"

NAMES = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"

Name = Annotated[str, Field(pattern=NAMES, max_length=200)]  # file systems take 255 bytes of a name

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

MAX_FIELDS = 16  # of an object

Format = Literal["cemiface-manifest-1", "cemiface-manifest-2"]

PLAIN: Format = "cemiface-manifest-1"

MARKED: Format = "cemiface-manifest-2"  # the same, of a set in which every picture says that it is synthetic

Count = Annotated[int, Field(ge=0)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Value):
    """A file beside the tars: card, metadata, verifier."""

    name: Name
    bytes: Count
    sha256: Sha256


class Shard(File):
    """One tar."""

    samples: Annotated[int, Field(ge=1)]


class Totals(_Value):
    """Counts over all tars."""

    shards: Count
    samples: Count
    bytes: Count


class Manifest(_Value):
    """All files of a set. `private` marks real faces: such a set is never published."""

    format: Format = PLAIN
    private: bool
    shards: Annotated[list[Shard], Field(fail_fast=True)]
    files: Annotated[list[File], Field(fail_fast=True)] = []
    totals: Totals

    @classmethod
    def of(cls, shards: Iterable[Shard], *, private: bool, files: Iterable[File] = (), version: Format = PLAIN) -> Self:
        """A manifest with its totals counted."""
        listed = list(shards)
        return cls(format=version, private=private, shards=listed, files=list(files), totals=_count(listed))

    @property
    def marked(self) -> bool:
        """Whether every picture says that it is synthetic; sets of older versions have no marks."""
        return self.format == MARKED

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [entry.name for entry in (*self.shards, *self.files)]
        repeated = strict_json.first_repeated(name.lower() for name in names)  # one file on some systems
        if repeated is not None:
            raise ValueError(f"{repeated} is listed twice")
        if self.totals != _count(self.shards):
            raise ValueError(f"totals are {self.totals}, the shards add up to {_count(self.shards)}")
        return self


def describe_shard(path: Path, *, samples: int) -> Shard:
    """The entry of one tar; reads and hashes it."""
    return Shard(name=path.name, bytes=path.stat().st_size, sha256=_sha256(path), samples=samples)


def describe_file(path: Path, *, folder: Path) -> File:
    """The entry of another file, named relative to `folder`; reads and hashes it."""
    return File(name=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=_sha256(path))


def manifest_bytes(manifest: Manifest) -> bytes:
    """`manifest.json`: equal manifests give equal bytes."""
    return strict_json.dumps(manifest.model_dump(), indent=1) + b"\n"


def read_manifest(path: Path, *, data: bytes | None = None) -> Manifest:
    """Read a manifest strictly; `data` is the file's content if it was read already.

    Raises:
        DataError: missing, not strict JSON, unknown or missing fields, a name outside the folder or listed twice,
            totals that do not add up, or above the limits of `strict_json.loads`.
    """
    try:
        content = read_whole(path, limit=strict_json.MAX_BYTES) if data is None else data
        value = strict_json.loads(content, where=str(path))
        _check_fields(value, where=path)
        return Manifest.model_validate(value)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "manifest"
        raise DataError(f"{path}: {shown(field)}: {shown(first['msg'], limit=200)}") from None


def _check_fields(value: dict[str, Any], *, where: Path) -> None:
    """Refuse objects of many fields before pydantic lists a million unknown ones."""
    lists = [entries for entries in value.values() if isinstance(entries, list)]
    objects = [value, *value.values(), *(entry for entries in lists for entry in entries)]
    if any(isinstance(entry, dict) and len(entry) > MAX_FIELDS for entry in objects):
        raise DataError(f"{where}: an object of more than {MAX_FIELDS} fields; it is no manifest")


def _count(shards: list[Shard]) -> Totals:
    return Totals(
        shards=len(shards),
        samples=sum(shard.samples for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
