"""The list of parts of a virtual dataset, as our joining files hold it, checked byte by byte.

HDF5 keeps it as an object of a global heap (File Format Specification 3.0, III.E, IV.A.2.i, VIII.A): for each part the
names of file and dataset, all of the source, one block of rows of the target; then a checksum.
"""

from __future__ import annotations

import mmap
import struct

COLLECTION, OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HH4xQ")

SELECTION = struct.Struct("<IIII")  # kind, version, reserved, bytes that follow

ALL, BLOCKS = (3, 1, 0, 0), (2, 1, 0, 24)

BLOCK = struct.Struct("<II4I")  # axes, blocks, first row and column, last row and column

MAX_PARTS = 100_000


def check_parts(data: mmap.mmap | bytes, *, address: int, index: int) -> None:
    """Check the object `index` of the global heap at `address`; raises ValueError, IndexError or struct.error."""
    magic, version, size = COLLECTION.unpack_from(data, address)
    if (magic, version) != (b"GCOL", 1) or address + size > len(data):
        raise ValueError("its list of parts is damaged")
    at, end, found = address + COLLECTION.size, address + size, False
    while at + OBJECT.size <= end:
        number, _, held = OBJECT.unpack_from(data, at)
        if number == 0:  # the free space, which ends the collection; its size is that of its header, too
            at += held
            break
        at += OBJECT.size
        if not 0 < held <= end - at:
            raise ValueError("its list of parts is damaged")
        if number == index:
            _check_list(data[at : at + held])
            found = True
        at += -(-held // 8) * 8
    if not found or at != end:
        raise ValueError("its list of parts is missing or damaged")


def _check_list(block: bytes) -> None:
    version, count = struct.unpack_from("<BQ", block)
    if version != 0 or count > MAX_PARTS:
        raise ValueError("its list of parts is of another version")
    at = 9
    for _ in range(count):
        at = block.index(b"\0", block.index(b"\0", at) + 1) + 1
        at = _after_selection(block, at)
        at = _after_selection(block, at)
    if at + 4 != len(block):
        raise ValueError("its list of parts is damaged")


def _after_selection(block: bytes, at: int) -> int:
    kind = SELECTION.unpack_from(block, at)
    at += SELECTION.size
    if kind == ALL:
        return at
    axes, blocks, top, left, bottom, right = BLOCK.unpack_from(block, at)
    if kind != BLOCKS or (axes, blocks) != (2, 1) or top > bottom or left > right:
        raise ValueError("its list of parts is damaged")
    return at + BLOCK.size
