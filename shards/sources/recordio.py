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

WHOLE, FIRST, LAST = 0, 1, 3

IMAGE = struct.Struct("<IfQQ")

MAX_LABELS = 1024


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
        DataError: not RecordIO, cut short or damaged; or a record is too short for an image's header.
    """
    size, offset = os.fstat(descriptor).st_size, 0
    while offset < size:
        start, payload, head = offset, 0, b""
        while True:
            part, length, data = _part(path, descriptor, offset, size=size)
            head = head or data
            payload += length + (4 if part not in (WHOLE, FIRST) else 0)
            offset += HEAD.size + -(-length // 4) * 4
            if part in (WHOLE, LAST):
                break
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
    payload: bytes | None = None
    while True:
        if len(data) < HEAD.size or data[:4] != MAGIC:
            return None
        part, length = _continuation(HEAD.unpack_from(data)[1])
        if HEAD.size + length > len(data):
            data = os.pread(descriptor, HEAD.size + length, at)
        content = data[HEAD.size : HEAD.size + length]
        payload = content if payload is None else payload + MAGIC + content
        if part in (WHOLE, LAST):
            break
        at += HEAD.size + -(-length // 4) * 4
        data = os.pread(descriptor, HEAD.size, at)
    if len(payload) < IMAGE.size:
        return None
    image = payload[IMAGE.size + 4 * IMAGE.unpack_from(payload)[0] :]
    return image if len(image) == image_bytes else None


def _part(path: Path, descriptor: int, offset: int, *, size: int) -> tuple[int, int, bytes]:
    """Continuation, length and the first bytes of the part at `offset`."""
    data = os.pread(descriptor, HEAD.size + IMAGE.size + 4, offset)
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise DataError(f"{path}: no record at byte {offset}; it is cut, damaged or not RecordIO")
    part, length = _continuation(HEAD.unpack_from(data)[1])
    if offset + HEAD.size + length > size:
        raise DataError(f"{path}: ends inside the record at byte {offset}; it is cut short")
    return part, length, data[HEAD.size : HEAD.size + length]


def _continuation(word: int) -> tuple[int, int]:
    return word >> LENGTH_BITS, word & (1 << LENGTH_BITS) - 1
