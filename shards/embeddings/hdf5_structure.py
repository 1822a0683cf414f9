"""The structure of our HDF5 files, walked before the library opens one.

The library crashes or never returns on some damaged files. What it writes for us is a small part of the format (HDF5
File Format Specification 3.0): superblock 0, object headers 1, one group as a symbol table. A file that is anything
else, or that points out of itself or in a circle, is refused here.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from shards.embeddings.hdf5_virtual import check_parts
from shards.errors import DataError

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Versions and sizes of superblock 0; then the addresses of base, free space, end and driver; the entry of the root.
SUPERBLOCK = struct.Struct("<8s4B4B2HI4Q2Q2I2Q")

VERSIONS = (0, 0, 0, 0, 0, 8, 8, 0)

HEADER, MESSAGE = struct.Struct("<BxHII4x"), struct.Struct("<HHB3x")

TREE, NODE, ENTRY = struct.Struct("<4sBBHQQ"), struct.Struct("<4sBxH"), struct.Struct("<QQII16x")

HEAP = struct.Struct("<4s4x3Q")

NIL, SPACE, TYPE, OLD_FILL, FILL, LAYOUT, ATTRIBUTE, CONTINUED, TABLE, TIME = 0, 1, 3, 4, 5, 8, 12, 16, 17, 18

KNOWN = {NIL, SPACE, TYPE, OLD_FILL, FILL, LAYOUT, ATTRIBUTE, CONTINUED, TABLE, TIME}

REFUSED = {2: "links", 6: "links", 7: "values in another file", 10: "links", 11: "compressed values"}  # by message

VIRTUAL = b"\x04\x03"  # version and class of a layout

INTEGER, FLOAT, STRING = 0, 1, 3  # classes of types

NO_PIECE = 1  # where a list of free pieces ends

MAX_MESSAGES = 1000  # of one object

MAX_OBJECTS = 100  # of a file


def check_structure(path: Path, *, data: bytes | None = None) -> None:
    """Walk the file from its superblock to every dataset.

    Args:
        data: the content of the file, where it was read already.

    Raises:
        DataError: it is not an HDF5 file as this project writes them.
        OSError: it cannot be read.
    """
    try:
        if data is not None:
            _Walk(data).run()
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            _Walk(mapped).run()
    except (ValueError, struct.error, IndexError, OverflowError) as error:
        raise DataError(f"{path}: not a readable HDF5 file: {error}; make it again, or fetch it again") from None


class _Walk:
    """A walk over a mapped file; raises ValueError, IndexError or struct.error where it is not as expected."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self.data = data

    def run(self) -> None:
        """Walk it."""
        if self.data[:8] != SIGNATURE:
            raise ValueError("it has another signature")
        fields = SUPERBLOCK.unpack_from(self.data)
        base, _, end, driver = fields[12:16]
        if fields[1:9] != VERSIONS or base != 0 or driver != 2**64 - 1 or end != len(self.data):
            raise ValueError("its superblock is of another version, or it is cut short")
        tables = [body for kind, body in self._messages(fields[17]) if kind == TABLE]
        if len(tables) != 1:
            raise ValueError("its root is no group")
        for address in self._children(*struct.unpack("<QQ", tables[0][:16])):
            self._check_object(address)

    def _messages(self, address: int) -> list[tuple[int, bytes]]:
        """Type and content of the messages of an object header; blocks that continue it come later in the list."""
        version, count, _, size = HEADER.unpack_from(self.data, address)
        if version != 1 or count > MAX_MESSAGES:
            raise ValueError(f"an object at byte {address} is damaged")
        found: list[tuple[int, bytes]] = []
        blocks = [(address + HEADER.size, size)]
        for start, length in blocks:  # grows while it is walked
            at, stop = start, start + length
            if stop > len(self.data) or len(blocks) > MAX_MESSAGES:
                raise ValueError(f"an object at byte {address} is damaged")
            while at + MESSAGE.size <= stop and len(found) < count:
                kind, held, flags = MESSAGE.unpack_from(self.data, at)
                at += MESSAGE.size
                if kind in REFUSED:
                    raise ValueError(f"it has {REFUSED[kind]}, expected plain values in this file")
                if kind not in KNOWN or at + held > stop or flags & ~1:
                    raise ValueError(f"a message at byte {at} is damaged")
                found.append((kind, self.data[at : at + held]))
                if kind == CONTINUED:
                    blocks.append(struct.unpack("<QQ", found[-1][1][:16]))
                at += held
        if len(found) != count:
            raise ValueError(f"an object at byte {address} is damaged")
        return found

    def _children(self, tree: int, heap: int) -> list[int]:
        """Addresses of the objects in a group: a tree of one level, with names in a heap."""
        magic, size, free, names = HEAP.unpack_from(self.data, heap)
        if magic != b"HEAP" or names + size > len(self.data) or not (free < size or free in (NO_PIECE, 2**64 - 1)):
            raise ValueError("the names of its datasets are damaged")
        while free != NO_PIECE and free < size:  # a list of free pieces, each behind the one before
            after, _ = struct.unpack_from("<QQ", self.data, names + free)
            if after != NO_PIECE and not free < after < size:
                raise ValueError("the names of its datasets are damaged")
            free = after
        magic, kind, level, used, *siblings = TREE.unpack_from(self.data, tree)
        if (magic, kind, level) != (b"TREE", 0, 0) or used > MAX_OBJECTS or siblings != [2**64 - 1] * 2:
            raise ValueError("its list of datasets is damaged")
        found = []
        for number in range(used):
            (node,) = struct.unpack_from("<Q", self.data, tree + TREE.size + 8 + 16 * number)
            magic, version, count = NODE.unpack_from(self.data, node)
            if (magic, version) != (b"SNOD", 1) or count > MAX_OBJECTS:
                raise ValueError("its list of datasets is damaged")
            for place in range(count):
                name, address, cached, _ = ENTRY.unpack_from(self.data, node + NODE.size + ENTRY.size * place)
                if name >= size or self.data.find(b"\0", names + name, names + size) < 0:
                    raise ValueError("the name of a dataset is damaged")
                if cached == 0:
                    found.append(address)
        return found

    def _check_object(self, address: int) -> None:
        for kind, body in self._messages(address):
            if kind == TYPE:
                _check_type(body)
            elif kind == SPACE:
                _check_space(body)
            elif kind == LAYOUT and body[:2] == VIRTUAL:
                place, index = struct.unpack_from("<QI", body, 2)
                check_parts(self.data, address=place, index=index)
            elif kind == LAYOUT and body[0] != 3:
                raise ValueError("the values of a dataset are of another version")


def _check_type(body: bytes) -> None:
    """Numbers and texts of fixed length only."""
    version, (size,) = body[0] >> 4, struct.unpack_from("<I", body, 4)
    if version != 1 or body[0] & 15 not in (INTEGER, FLOAT, STRING) or not size:
        raise ValueError("a dataset is of an unknown type")


def _check_space(body: bytes) -> None:
    version, rank, flags = body[:3]
    if version not in (1, 2) or rank > 2 or flags & ~1:
        raise ValueError("a dataset has an unknown shape")
