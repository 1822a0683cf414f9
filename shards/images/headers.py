"""Checks on the first bytes and the header of an image file, before anything is decoded.

The format is recognized by its magic bytes, never by the file name, and the number of pixels is checked first.
"""

from __future__ import annotations

import io

from PIL import Image

from shards.images.outcomes import Outcome, RejectedImageError
from shards.images.pillow_errors import DAMAGE, rejected
from shards.images.rules import ImageRules

JPEG_MAGIC = b"\xff\xd8\xff"

MAX_ASPECT = 3.0  # a center crop of a longer image loses two thirds of it

MAX_ENLARGEMENT = 4  # beyond it most detail of the resized face would be made up by interpolation

_OTHER_FORMATS = (
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"#?RADIANCE",
    b"\0\0\0\x0cjP",
    b"8BPS",
    b"P1",
    b"P2",
    b"P3",
    b"P4",
)


def open_header(data: bytes, *, rules: ImageRules) -> Image.Image:
    """Parse the header of an image file; no pixels are decoded.

    Raises:
        RejectedImageError: empty, no image, another format, animated, damaged, or of a size that `rules` reject.
    """
    name = _format_name(data)
    try:
        header = Image.open(io.BytesIO(data), formats=(name,))
        animated = name != "JPEG" and getattr(header, "is_animated", False)
    except Image.DecompressionBombError as error:
        raise RejectedImageError(Outcome.TOO_LARGE, str(error)) from None
    except DAMAGE as error:
        raise rejected(error) from None
    if animated:
        raise RejectedImageError(Outcome.ANIMATED, name)
    _check_size(*header.size, rules=rules)
    return header


def orientation(header: Image.Image) -> int | None:
    """EXIF orientation 1 to 8; 1 if there is none, None if the EXIF block cannot be parsed."""
    try:
        return int(header.getexif().get(0x0112, 1))
    except DAMAGE:
        return None


def _check_size(width: int, height: int, *, rules: ImageRules) -> None:
    got, short = f"{width}x{height}", min(width, height)
    if width * height > rules.max_pixels:
        raise RejectedImageError(Outcome.TOO_LARGE, f"{got}, allowed are {rules.max_pixels} pixels")
    if short * MAX_ENLARGEMENT < rules.size:
        raise RejectedImageError(Outcome.TOO_SMALL, f"{got} for size {rules.size}")
    if max(width, height) > MAX_ASPECT * short:
        raise RejectedImageError(Outcome.ASPECT, f"{got}, allowed is {MAX_ASPECT:g} to 1")
    if rules.resize == "never" and (width, height) != (rules.size, rules.size):
        raise RejectedImageError(Outcome.WRONG_SIZE, f"{got}, expected {rules.size}x{rules.size}, or set resize")


def _format_name(data: bytes) -> str:
    """Pillow's name of an allowed format."""
    if not data:
        raise RejectedImageError(Outcome.EMPTY, "zero bytes")
    if data.startswith(JPEG_MAGIC):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] in (b"P5", b"P6") and data[2:3].isspace():
        return "PPM"
    start = f"starts with {data[:8]!r}"
    if data.startswith(_OTHER_FORMATS) or data[4:8] == b"ftyp":
        raise RejectedImageError(Outcome.FORMAT, f"{start}, allowed are JPEG, PNG, WebP and binary PNM")
    raise RejectedImageError(Outcome.NOT_AN_IMAGE, start)
