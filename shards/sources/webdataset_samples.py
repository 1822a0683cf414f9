"""Faces in a WebDataset tar: `<key>.jpg` with the identity in `<key>.cls` or `<key>.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shards import strict_json
from shards.errors import DataError
from shards.images.faces import Face, Skip, escaped, is_ignored_name
from shards.images.outcomes import Outcome
from shards.sources.archive_tree import Member

IMAGES = {b"jpg", b"jpeg", b"png", b"webp", b"ppm", b"pgm"}

FIELDS = ("identity", "label", "cls")  # of the JSON record; the first that is there

MAX_LABEL_BYTES = 2**20

MAX_IDENTITY = 1000  # characters; a longer one counts as none

Read = Callable[[Member], bytes | None]


def sample_faces(archive: str, members: Iterable[Member], *, read: Read) -> tuple[list[Face], list[Skip]] | None:
    """The faces, or None if no image has an identity beside it, that is, the tar is not a WebDataset.

    As in WebDataset, the key ends at the first dot of the name, and the members of a sample are adjacent.
    Members that are neither image nor identity are skipped without parsing.
    """
    faces: list[Face] = []
    skipped: list[Skip] = []
    images: list[Member] = []
    key: bytes | None = None
    identity: str | None = None

    def end_sample() -> None:
        for image in images:
            path = f"{archive}/{escaped(image.name)}"
            if identity is None:
                skipped.append(Skip(path=path, outcome=Outcome.NO_IDENTITY, detail="no .cls or .json with it"))
            else:
                faces.append(Face(identity=identity, path=path, bytes=image.bytes, location=image.location))
        images.clear()

    for member in members:
        folder, slash, name = member.name.rpartition(b"/")
        stem, _, kind = name.partition(b".")
        if folder + slash + stem != key:
            end_sample()
            key, identity = folder + slash + stem, None
        if member.refused is None and not is_ignored_name(name) and kind.lower() in IMAGES:
            images.append(member)
        elif member.refused is None and kind in (b"cls", b"json") and member.bytes <= MAX_LABEL_BYTES:
            identity = identity or _identity(read(member) or b"", kind=kind)
        else:
            path = f"{archive}/{escaped(member.name)}"
            skipped.append(Skip(path=path, outcome=member.refused or Outcome.IGNORED))
    end_sample()
    return (faces, skipped) if faces else None


def _identity(data: bytes, *, kind: bytes) -> str | None:
    if kind == b"cls":
        return _short(escaped(data.strip()[: MAX_IDENTITY + 1]))
    try:
        record = strict_json.loads(data, where="record")
    except DataError:
        return None
    found = next((record[field] for field in FIELDS if field in record), None)
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    return _short(escaped(str(found)[: MAX_IDENTITY + 1].encode("utf-8", "surrogatepass")))


def _short(identity: str) -> str | None:
    return identity if 0 < len(identity) <= MAX_IDENTITY else None
