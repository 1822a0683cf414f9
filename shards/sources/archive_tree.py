"""Faces in an archive with a tree of identity folders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shards.errors import DataError
from shards.images.faces import Face, Skip, escaped, is_ignored_name
from shards.images.outcomes import Outcome
from shards.sources.file_kinds import is_archive, is_image

LABELS = (b"cls", b"json")  # suffixes of label files, which WebDataset puts beside images

MAX_NAME = 4096  # bytes of a member's name, as long as a path may be; longer ones would multiply in memory


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive that is not a folder.

    Attributes:
        name: as in the archive, with `/` between folders; at most `MAX_NAME` bytes.
        bytes: size of the content.
        location: where the archive's reader finds it, in a form of its own.
        refused: why it is not read; None for a regular file.
    """

    name: bytes
    bytes: int
    location: str
    refused: Outcome | None


def name_parts(name: bytes) -> list[bytes]:
    """The folders of a member and its own name."""
    return [part for part in name.split(b"/") if part not in (b"", b".")]


def tree_faces(
    archive: str, members: Iterable[Member], *, without_labels: bool = False
) -> tuple[list[Face], list[Skip]]:
    """Faces at `<identity>/<image>`; folders around all identity folders are ignored.

    Of members with the same name the last one is used, as it would be after extraction.

    Args:
        without_labels: pass over `.cls` and `.json` files, which otherwise count as images that cannot be read.

    Raises:
        DataError: folders lie inside identity folders, or an archive beside them.
    """
    faces: dict[bytes, Face] = {}
    skipped: list[Skip] = []
    identities: dict[bytes, str] = {}  # by folder
    for member in members:
        parts = name_parts(member.name)
        path = f"{archive}/{escaped(b'/'.join(parts))}"
        if member.refused is not None or any(map(is_ignored_name, parts)):
            reason = "" if member.refused else "hidden or of the system"
            skipped.append(Skip(path=path, outcome=member.refused or Outcome.IGNORED, detail=reason))
            continue
        if len(parts) < 2:
            skipped.append(loose(path, parts[-1] if parts else b""))
            continue
        if without_labels and parts[-1].rpartition(b".")[2].lower() in LABELS:
            skipped.append(Skip(path=path, outcome=Outcome.IGNORED, detail="a label file, and the folders are used"))
            continue
        folder = b"/".join(parts[:-1])
        identity = identities.setdefault(folder, escaped(parts[-2]))
        name = folder + b"/" + parts[-1]
        if name in faces:
            skipped.append(Skip(path=path, outcome=Outcome.DUPLICATE, detail="a later member has the same name"))
        faces[name] = Face(identity=identity, path=path, bytes=member.bytes, location=member.location)
    depth = _depth(archive, set(identities))
    above = [name for name in faces if name.count(b"/") < depth]
    for name in above:
        skipped.append(loose(faces.pop(name).path, name.rpartition(b"/")[2]))
    return list(faces.values()), skipped


def loose(path: str, name: bytes) -> Skip:
    """The outcome of a file in no identity's folder.

    Raises:
        DataError: it is an archive, whose images would be missed.
    """
    if is_archive(name):
        raise DataError(f"{path}: an archive inside the archive, which is not read; unpack it, or repack without it")
    outcome = Outcome.NO_IDENTITY if is_image(name) else Outcome.IGNORED
    return Skip(path=path, outcome=outcome, detail="in no identity's folder")


def _depth(archive: str, folders: set[bytes]) -> int:
    """Number of folders above each image, including the folders around all identities."""
    split = [folder.split(b"/") for folder in folders]
    depth = 1
    while any(len(parts) > depth for parts in split) and len({parts[depth - 1] for parts in split}) == 1:
        split = [parts for parts in split if len(parts) > depth]
        depth += 1
    deeper = sorted(b"/".join(parts) for parts in split if len(parts) > depth)
    if deeper:
        raise DataError(
            f"{archive}: {escaped(deeper[0])} is a folder inside an identity; expected <identity>/<image>, repack it"
        )
    return depth
