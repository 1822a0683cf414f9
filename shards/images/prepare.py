"""One image file in, one outcome out: check, convert to a square RGB JPEG, hash.

Nothing is trusted before the header was looked at: the format is told by magic bytes, never by the name, and the
pixel count is checked before anything is decoded.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from shards.images.jpeg import decode_rgb, encode_jpeg


class Outcome(StrEnum):
    """Where an input file can end. The list is closed: counts by outcome add up to the number of inputs."""

    KEPT = "kept"  # usable as it is: the original bytes
    CONVERTED = "converted"  # usable after conversion
    TRUNCATED = "truncated"  # the data ends before the image does
    CORRUPT = "corrupt"  # damaged inside
    EMPTY = "empty"  # zero bytes
    NOT_AN_IMAGE = "not_an_image"
    FORMAT = "format"  # an image, but not JPEG, PNG, WebP or binary PNM
    ANIMATED = "animated"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    ASPECT = "aspect"  # much longer than wide
    WRONG_SIZE = "wrong_size"  # not the promised size, and resizing was not asked for
    BLANK = "blank"  # one color
    UNREADABLE = "unreadable"
    CHANGED = "changed"  # between listing and reading
    SYMLINK = "symlink"
    NOT_REGULAR = "not_regular"  # folder, fifo, socket, device
    IGNORED = "ignored"  # hidden files, litter of operating systems, what belongs to nobody
    NOT_LISTED = "not_listed"  # not in the list of images to take
    DUPLICATE = "duplicate"  # the same bytes came before, and only the first of equal files was asked for
    NO_IDENTITY = "no_identity"  # nothing says whose face it is


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """What an image must be.

    Args:
        size: side of the square output, pixels.
        resize: `never` refuses other sizes (aligned crops are promised); `center` cuts the central square,
            `pad` adds black borders, then both scale.
        quality: of the JPEG written for converted images.
        max_pixels: width times height above this is refused unseen.
    """

    size: int
    resize: Literal["never", "center", "pad"] = "never"
    quality: int = 95
    max_pixels: int = 40_000_000

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise ValueError(f"size: got {self.size}, allowed are 8 to 4096 pixels")
        if self.resize not in ("never", "center", "pad"):
            raise ValueError(f"resize: got {self.resize!r}, allowed are never, center and pad")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: got {self.quality}, allowed are 1 to 100")
        if not self.size**2 <= self.max_pixels <= PILLOW_PIXELS:
            raise ValueError(f"max_pixels: got {self.max_pixels}, allowed are size x size to {PILLOW_PIXELS}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """`jpeg` is there exactly if the outcome is kept or converted; `detail` says why, in words."""

    outcome: Outcome
    jpeg: bytes | None = None
    detail: str = ""


class _RefusedError(Exception):
    """Carries an outcome from the step that found it to `prepare`."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


PILLOW_PIXELS = 178_000_000  # above this Pillow itself refuses to open an image

MAX_ASPECT = 3.0  # a center crop of anything longer loses two thirds of the picture

MAX_ENLARGEMENT = 4  # beyond it the resized face would be invented, not seen

BLANK_RANGE = 8  # gray levels between darkest and brightest pixel of each color; JPEG noise stays below

# Segments that say nothing but how to decode: JFIF, Adobe, tables, frame, restarts, comment. Not among them is APP1
# with EXIF or XMP, which may hold an orientation, and APP2, which may say that a second picture follows.
_FRAMES = {0xC0, 0xC1, 0xC2}

_PLAIN_SEGMENTS = {0xE0, 0xEE, 0xDB, 0xC4, 0xDD, 0xFE} | _FRAMES

_START_OF_SCAN = 0xDA

# Every damaged file ends in an outcome; Pillow's remarks on the way would only fill the logs.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What Pillow's parsers were seen to raise on damaged files. Everything else is a bug and shall be loud.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def prepare(data: bytes, *, rules: ImageRules) -> Prepared:
    """Turn the bytes of one file into a square RGB JPEG, or say why not.

    A JPEG that already is RGB, of the right size and upright keeps its original bytes, so that preparing loses
    nothing. Everything else usable is converted: turned upright by EXIF, metadata dropped, 16-bit gray scaled,
    transparency put on black, resized as `rules` say, written as JPEG 4:4:4.
    """
    if _is_fine(data, size=rules.size):
        return Prepared(outcome=Outcome.KEPT, jpeg=data)
    try:
        header = _open(data, rules=rules)
        image, turn = _decode(data, header), _orientation(header)
        if all(high - low <= BLANK_RANGE for low, high in _extrema(image)):
            raise _RefusedError(Outcome.BLANK, "one color")
        if header.format == "JPEG" and header.mode == "RGB" and turn == 1 and image.size == (rules.size, rules.size):
            return Prepared(outcome=Outcome.KEPT, jpeg=data)
        rgb = np.asarray(_squared(_upright(image, turn=turn), rules=rules))
        return Prepared(
            outcome=Outcome.CONVERTED,
            jpeg=encode_jpeg(rgb, quality=rules.quality),
            detail=f"{header.format} {header.mode} {header.width}x{header.height}",
        )
    except _RefusedError as refused:
        return Prepared(outcome=refused.outcome, detail=refused.detail)


def picture_hash(data: bytes, *, rules: ImageRules) -> bytes:
    """The hash of the picture in a file as it is seen, upright and in RGB; empty if the file is not usable.

    Equal for equal pictures, however they are packed: another format without loss, metadata, or a turn by EXIF.
    """
    try:
        header = _open(data, rules=rules)
        return bytes.fromhex(pixel_hash(np.asarray(_upright(_decode(data, header), turn=_orientation(header)))))
    except _RefusedError:
        return b""


def pixel_hash(rgb: np.ndarray) -> str:
    """SHA-256 of shape and pixels: equal for equal pictures however they were encoded."""
    return hashlib.sha256(f"{rgb.shape}".encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()


def perceptual_hash(rgb: np.ndarray) -> int:
    """256-bit difference hash on luma: a bit is set where a cell of a 16x17 thumbnail is darker than its right one.

    Survives recompression, rescaling, noise, brightness and contrast. The usual 64 bits are too few here: aligned
    faces all look alike at 8x9 cells.
    """
    thumbnail = Image.fromarray(rgb).convert("L").resize((17, 16), Image.Resampling.BOX)
    cells = np.asarray(thumbnail, dtype=np.int16)
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")


def _is_fine(data: bytes, *, size: int) -> bool:
    """Whether this is the usual case: a whole JPEG of that size, RGB, not blank, nothing in it that could turn it.

    Three times as fast as the long way, which decides whenever this says no. Decoding at an eighth of the size runs
    through every bit of the compressed data and finds what a full decode finds, as damage shows in the entropy code;
    what it saves is the arithmetic behind it, which cannot fail.
    """
    if not data.startswith(b"\xff\xd8\xff") or _plain_frame(data) != (size, size, 3):
        return False
    try:
        small = simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True, min_height=1, min_width=1)
    except ValueError:
        return False
    some = small.tobytes()[::8]
    return max(some) - min(some) > 2 * BLANK_RANGE


def _plain_frame(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and components of a JPEG; None unless only `_PLAIN_SEGMENTS` come before its picture."""
    at, frame = 2, None
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == _START_OF_SCAN:
            return frame
        if kind not in _PLAIN_SEGMENTS:
            return None
        if kind in _FRAMES:
            frame = (data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8], data[at + 9])
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None


def _open(data: bytes, *, rules: ImageRules) -> Image.Image:
    """Parse the header only, and refuse what its numbers already tell."""
    name = _format(data)
    try:
        header = Image.open(io.BytesIO(data), formats=(name,))
        animated = name != "JPEG" and getattr(header, "is_animated", False)
    except Image.DecompressionBombError as error:
        raise _RefusedError(Outcome.TOO_LARGE, str(error)) from None
    except _DAMAGE as error:
        raise _RefusedError(*_damage(error)) from None
    if animated:
        raise _RefusedError(Outcome.ANIMATED, name)
    _check_size(*header.size, rules=rules)
    return header


def _check_size(width: int, height: int, *, rules: ImageRules) -> None:
    got, short = f"{width}x{height}", min(width, height)
    if width * height > rules.max_pixels:
        raise _RefusedError(Outcome.TOO_LARGE, f"{got}, allowed are {rules.max_pixels} pixels")
    if short * MAX_ENLARGEMENT < rules.size:
        raise _RefusedError(Outcome.TOO_SMALL, f"{got} for size {rules.size}")
    if max(width, height) > MAX_ASPECT * short:
        raise _RefusedError(Outcome.ASPECT, f"{got}, allowed is {MAX_ASPECT:g} to 1")
    if rules.resize == "never" and (width, height) != (rules.size, rules.size):
        raise _RefusedError(Outcome.WRONG_SIZE, f"{got}, expected {rules.size}x{rules.size}, or set resize")


def _format(data: bytes) -> str:
    """Pillow's name of an allowed format, told by magic bytes."""
    if not data:
        raise _RefusedError(Outcome.EMPTY, "zero bytes")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] in (b"P5", b"P6") and data[2:3].isspace():
        return "PPM"
    known = (b"GIF8", b"II*\0", b"MM\0*", b"BM", b"#?RADIANCE", b"\0\0\0\x0cjP", b"8BPS", b"P1", b"P2", b"P3", b"P4")
    if data.startswith(known) or data[4:8] == b"ftyp":
        raise _RefusedError(Outcome.FORMAT, f"starts with {data[:8]!r}, allowed are JPEG, PNG, WebP and binary PNM")
    raise _RefusedError(Outcome.NOT_AN_IMAGE, f"starts with {data[:8]!r}")


def _decode(data: bytes, header: Image.Image) -> Image.Image:
    """Decode completely to RGB, in stored orientation.

    JPEG goes through the strict decoder, which finds damage inside that others paint over in gray (it cannot
    convert CMYK to RGB, so those are left to Pillow).
    """
    try:
        if header.format in ("JPEG", "MPO") and header.mode in ("RGB", "L"):
            return Image.fromarray(decode_rgb(data))
        header.load()
        return _to_rgb(header)
    except _DAMAGE as error:
        raise _RefusedError(*_damage(error)) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion clips at 255 instead of scaling
        gray = np.asarray(image, dtype=np.int64).clip(0, 65535)
        return Image.fromarray(((gray + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    return [band.getextrema() for band in image.split()]  # type: ignore[misc]


def _orientation(header: Image.Image) -> int | None:
    """EXIF orientation 1 to 8; 1 if there is none, None if the EXIF block cannot be parsed."""
    try:
        return int(header.getexif().get(0x0112, 1))
    except _DAMAGE:
        return None


def _upright(image: Image.Image, *, turn: int | None) -> Image.Image:
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _squared(image: Image.Image, *, rules: ImageRules) -> Image.Image:
    """Crop or pad to a square and scale.

    Bicubic: Pillow widens its kernel with the scale, so shrinking does not alias (Parmar et al., CVPR 2022); Lanczos
    is a little sharper but rings around eyes and glasses, and a generator would learn the rings.
    """
    size = (rules.size, rules.size)
    if image.size == size:
        return image
    if rules.resize == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=(0, 0, 0))
    return ImageOps.fit(image, size, Image.Resampling.BICUBIC)


def _damage(error: Exception) -> tuple[Outcome, str]:
    if isinstance(error, UnidentifiedImageError):  # its text holds a memory address
        return Outcome.CORRUPT, "the header cannot be parsed"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    ends_early = any(word in text.lower() for word in ("truncated", "premature end", "end of file", "not enough"))
    return (Outcome.TRUNCATED if ends_early else Outcome.CORRUPT), text
