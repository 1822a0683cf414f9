"""The outcomes that an input file can have, and the result of preparing one file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of an input file. The list is closed: the counts by outcome add up to the number of inputs."""

    KEPT = "kept"  # usable, original bytes
    CONVERTED = "converted"  # usable after conversion
    TRUNCATED = "truncated"  # the data ends before the image does
    CORRUPT = "corrupt"  # damaged data
    EMPTY = "empty"  # zero bytes
    NOT_AN_IMAGE = "not_an_image"
    FORMAT = "format"  # an image, but not JPEG, PNG, WebP or binary PNM
    ANIMATED = "animated"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    ASPECT = "aspect"  # long side more than `MAX_ASPECT` times the short side
    WRONG_SIZE = "wrong_size"  # not the configured size, and resizing is off
    BLANK = "blank"  # one color
    NO_FACE = "no_face"  # nothing to align, with `shard.align`
    MANY_FACES = "many_faces"  # a second face of at least half the size of the largest, with `shard.align`
    UNREADABLE = "unreadable"
    CHANGED = "changed"  # between listing and reading
    SYMLINK = "symlink"
    NOT_REGULAR = "not_regular"  # folder, FIFO, socket or device
    IGNORED = "ignored"  # no image: hidden file, system file, or another file outside of every identity's folder
    NOT_LISTED = "not_listed"  # not in the list of images to use
    DUPLICATE = "duplicate"  # equal to an earlier file, or a name that appears again later in the archive
    NO_IDENTITY = "no_identity"  # no label gives its identity, or an image outside of every identity's folder


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The result of preparing one file.

    Attributes:
        jpeg: the usable image; None unless the outcome is kept or converted.
        detail: the reason for the outcome; of a converted image, what it was converted from.
    """

    outcome: Outcome
    jpeg: bytes | None = None
    detail: str = ""


class RejectedImageError(Exception):
    """A check failed; carries the outcome and its detail up to `prepare`."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail
