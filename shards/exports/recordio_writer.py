"""Writes RecordIO as insightface reads it: `train.rec` with an image per record, `train.idx` with the offset of each.

A record is a magic number, a word with 3 bits of continuation flag and 29 bits of length, the data, and zeros up to
four bytes. The data starts with a header of flag, label, id and second id; labels beyond one follow it. Record 0 holds
no image: its two labels say that the images have ids 1 to first - 1, and that the records first to last - 1 name the
images of each identity, in the order of the labels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from shards.errors import DataError
from shards.tars.writer import Sink

MAGIC = 0xCED7230A

MAGIC_BYTES = struct.pack("<I", MAGIC)

HEADER = struct.Struct("<IfQQ")  # flag (number of labels that follow, 0: the one here), label, id, second id

WHOLE, FIRST, MIDDLE, LAST = range(4)  # continuation flags

MAX_LENGTH = 2**29 - 1  # of a part, in bytes

MAX_LABEL = 2**24  # float32 counts exactly up to here


class RecordWriter:
    """Images in label order into a record file; the index is kept until the end.

    Args:
        rec: takes the bytes of `train.rec`.
        images: number of images to come; record 0 has it.
        classes: number of identities.
    """

    def __init__(self, rec: Sink, *, images: int, classes: int) -> None:
        if classes > MAX_LABEL or images + classes >= MAX_LABEL:
            raise DataError(
                f"RecordIO: got {images} images of {classes} identities, allowed are {MAX_LABEL - 1} together, as its "
                "labels are 32-bit floats; export in parts"
            )
        self._rec, self._images, self._classes = rec, images, classes
        self._bytes, self._offsets = 0, list[int]()
        self._ranges: list[list[int]] = []
        self._append([images + 1, images + 1 + classes], number=0)

    def add(self, jpg: bytes, *, label: int) -> None:
        """Append an image; labels come in order, starting at 0 and leaving none out.

        Raises:
            DataError: the label is out of order.
        """
        if label not in (len(self._ranges) - 1, len(self._ranges)):
            raise DataError(f"RecordIO: got label {label} after {len(self._ranges) - 1}; sort the images by label")
        number = len(self._offsets)
        if label == len(self._ranges):
            self._ranges.append([number, number])
        self._ranges[label][1] = number + 1
        self._append([label], number=number, data=jpg)

    def close(self) -> bytes:
        """Write the records of the identities; returns the bytes of `train.idx`.

        Raises:
            DataError: the counts differ from those given at the start.
        """
        images = len(self._offsets) - 1
        if (images, len(self._ranges)) != (self._images, self._classes):
            raise DataError(
                f"RecordIO: {images} images of {len(self._ranges)} identities, but other counts were given at the start"
            )
        for first_last in self._ranges:
            self._append(first_last, number=len(self._offsets))
        return "".join(f"{number}\t{offset}\n" for number, offset in enumerate(self._offsets)).encode()

    def _append(self, labels: Sequence[int], *, number: int, data: bytes = b"") -> None:
        self._offsets.append(self._bytes)
        if len(labels) == 1:
            header = HEADER.pack(0, labels[0], number, 0)
        else:
            header = HEADER.pack(len(labels), 0, number, 0) + struct.pack(f"<{len(labels)}f", *labels)
        for part in framed(header + data):
            self._rec.write(part)
            self._bytes += len(part)


def framed(data: bytes) -> Iterator[bytes]:
    """The data as one record, or as several parts.

    Readers find records by the magic number at a multiple of four bytes. Where the data has it there, the record is
    cut, the four bytes are left out, and readers put them back between the parts.
    """
    cuts = [found.start() for found in re.finditer(re.escape(MAGIC_BYTES), data) if found.start() % 4 == 0]
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)]
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        length = end - start
        if length > MAX_LENGTH:
            raise DataError(f"RecordIO: got a part of {length} bytes, allowed are {MAX_LENGTH}")
        flag = WHOLE if not cuts else FIRST if place == 0 else LAST if place == len(cuts) else MIDDLE
        yield MAGIC_BYTES + struct.pack("<I", flag << 29 | length) + data[start:end] + bytes(-length % 4)
