"""Reads RecordIO files of MXNet and insightface without either package.

A record is the word 0xCED7230A, a word with three bits of continuation and 29 of length, the payload, and zeros up to
the next multiple of four. A payload that holds the magic word itself, at a multiple of four, is cut there into parts
(continuation 1, 2, ..., 3) and the word left out. An image payload starts with flag (u32), label (f32), two ids
(u64); with flag > 0 that many f32 labels follow; the rest is the encoded image.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.errors import DataError

MAGIC = struct.pack("<I", 0xCED7230A)

HEAD = struct.Struct("<4sI")

LENGTH_BITS = 29

WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3

IMAGE = struct.Struct("<IfQQ")

HEAD_BYTES = IMAGE.size + 4  # header and first label

MAX_LABELS = 1024

MAX_PARTS = 1024  # of a record: in an image, the magic word comes once in 16 GB


@dataclass(frozen=True, slots=True)
class Record:
    """One record: where it starts, its label (the first, of several), and how many bytes of image it has.

    insightface's records about the set and about identities have several labels and no image.
    """

    at: int
    label: float
    labels: int
    image_bytes: int


def records(path: Path, descriptor: int) -> Iterator[Record]:
    """Yield every record of the file.

    Raises:
        DataError: not RecordIO, cut short or damaged; a record is too short for an image's header, or in more than
            `MAX_PARTS` parts.
    """
    size, offset = os.fstat(descriptor).st_size, 0
    while offset < size:
        start = offset
        offset, payload, head = _whole(path, descriptor, start, size=size)
        if len(head) < IMAGE.size:
            raise DataError(f"{path}: the record at byte {start} has {payload} bytes, too few for an image record")
        flag, label, _, _ = IMAGE.unpack_from(head)
        image_bytes = payload - IMAGE.size - 4 * flag
        if flag > MAX_LABELS or image_bytes < 0:
            raise DataError(f"{path}: the record at byte {start} claims {flag} labels; it is not an image record")
        if flag:
            (label,) = struct.unpack_from("<f", head, IMAGE.size)
        yield Record(start, label, flag, image_bytes)


def read_image(descriptor: int, *, at: int, image_bytes: int) -> bytes | None:
    """The encoded image of a record, or None if there is no longer a record with an image of that size."""
    data = os.pread(descriptor, HEAD.size + IMAGE.size + 8 + image_bytes, at)  # one read in nearly all cases
    parts: list[bytes] = []
    left = IMAGE.size + 4 * MAX_LABELS + image_bytes  # no payload of such an image is longer
    while len(parts) < MAX_PARTS:
        if len(data) < HEAD.size or data[:4] != MAGIC:
            return None
        part, length = _continuation(HEAD.unpack_from(data)[1])
        left -= length + (len(MAGIC) if parts else 0)
        if left < 0 or not _follows(part, bool(parts)):
            return None
        if HEAD.size + length > len(data):
            data = os.pread(descriptor, HEAD.size + length, at)
        parts.append(data[HEAD.size : HEAD.size + length])
        if part in (WHOLE, LAST):
            break
        at += HEAD.size + -(-length // 4) * 4
        data = os.pread(descriptor, HEAD.size, at)
    payload = MAGIC.join(parts)
    if len(payload) < IMAGE.size:
        return None
    image = payload[IMAGE.size + 4 * IMAGE.unpack_from(payload)[0] :]
    return image if len(image) == image_bytes else None


def _whole(path: Path, descriptor: int, start: int, *, size: int) -> tuple[int, int, bytes]:
    """The end of a record, the bytes of its payload, and the first of them: header and one label."""
    offset, payload, head = start, 0, b""
    for count in range(MAX_PARTS):
        part, length, data = _part(path, descriptor, offset, size=size)
        if not _follows(part, count > 0):
            raise DataError(f"{path}: the parts of the record at byte {start} are out of order; it is damaged")
        between = MAGIC if count else b""
        payload += len(between) + length
        head += between + data if len(head) < HEAD_BYTES else b""  # the header may be split, too
        offset += HEAD.size + -(-length // 4) * 4
        if part in (WHOLE, LAST):
            return offset, payload, head[:HEAD_BYTES]
    raise DataError(f"{path}: the record at byte {start} has more than {MAX_PARTS} parts; it is no image record")


def _part(path: Path, descriptor: int, offset: int, *, size: int) -> tuple[int, int, bytes]:
    """Continuation, length and the first bytes of the part at `offset`."""
    data = os.pread(descriptor, HEAD.size + HEAD_BYTES, offset)
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise DataError(f"{path}: no record at byte {offset}; it is cut, damaged or not RecordIO")
    part, length = _continuation(HEAD.unpack_from(data)[1])
    if offset + HEAD.size + length > size:
        raise DataError(f"{path}: ends inside the record at byte {offset}; it is cut short")
    return part, length, data[HEAD.size : HEAD.size + length]


def _follows(part: int, begun: bool) -> bool:
    """Whether a part may come here: a record is whole, or a first, any number of middle ones and a last part."""
    return part in (MIDDLE, LAST) if begun else part in (WHOLE, FIRST)


def _continuation(word: int) -> tuple[int, int]:
    return word >> LENGTH_BITS, word & (1 << LENGTH_BITS) - 1
