"""Turns one image file into a square RGB JPEG, or into the outcome that says why it is not usable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from shards.images.convert import decode, square, upright
from shards.images.hashes import pixel_hash
from shards.images.headers import open_header, orientation
from shards.images.jpeg import encode_jpeg
from shards.images.jpeg_check import BLANK_RANGE, is_plain_jpeg
from shards.images.outcomes import Outcome, Prepared, RejectedImageError
from shards.images.rules import ImageRules

# From an upright photo, uint8 (H, W, 3), to its face, uint8 (size, size, 3). Raises RejectedImageError if it has none.
Align = Callable[[np.ndarray], np.ndarray]


def prepare(data: bytes, *, rules: ImageRules, align: Align | None = None) -> Prepared:
    """Check the bytes of one file and convert them where needed.

    An upright RGB JPEG of the right size keeps its original bytes, so preparing a second time loses nothing. Every
    other usable image is converted: EXIF orientation applied, metadata dropped, 16-bit gray scaled, transparency put
    on black, resized as `rules` say, encoded as JPEG 4:4:4.

    With `align`, every image is a photo whose face is cut out by it, and is converted.
    """
    if align is None and is_plain_jpeg(data, size=rules.size):
        return Prepared(outcome=Outcome.KEPT, jpeg=data)
    try:
        header = open_header(data, rules=rules)
        image, turn = decode(data, header), orientation(header)
        if _is_blank(image):
            raise RejectedImageError(Outcome.BLANK, "one color")
        if align:
            rgb = align(np.asarray(upright(image, orientation=turn)))
        elif header.format == "JPEG" and header.mode == "RGB" and turn == 1 and image.size == (rules.size, rules.size):
            return Prepared(outcome=Outcome.KEPT, jpeg=data)
        else:
            rgb = np.asarray(square(upright(image, orientation=turn), rules=rules))
    except RejectedImageError as error:
        return Prepared(outcome=error.outcome, detail=error.detail)
    return Prepared(
        outcome=Outcome.CONVERTED,
        jpeg=encode_jpeg(rgb, quality=rules.quality),
        detail=f"{header.format} {header.mode} {header.width}x{header.height}",
    )


def upright_pixels(data: bytes, *, rules: ImageRules) -> np.ndarray:
    """The upright RGB pixels (H, W, 3) uint8 of a file, of any size that the rules allow.

    Raises:
        RejectedImageError: it is not usable.
    """
    header = open_header(data, rules=rules)
    image = decode(data, header)
    if _is_blank(image):
        raise RejectedImageError(Outcome.BLANK, "one color")
    return np.asarray(upright(image, orientation=orientation(header)))


def decoded_hash(data: bytes, *, rules: ImageRules) -> bytes:
    """SHA-256 of the upright RGB pixels of a file; empty if the file is not usable.

    Files with equal pixels have equal hashes, whatever their lossless format, metadata or EXIF orientation.
    """
    try:
        header = open_header(data, rules=rules)
        image = upright(decode(data, header), orientation=orientation(header))
    except RejectedImageError:
        return b""
    return bytes.fromhex(pixel_hash(np.asarray(image)))


def _is_blank(image: Image.Image) -> bool:
    """Whether an RGB image has one color, JPEG noise aside."""
    bands: list[tuple[int, int]] = [band.getextrema() for band in image.split()]  # type: ignore[misc]
    return all(high - low <= BLANK_RANGE for low, high in bands)
