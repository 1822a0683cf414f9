"""Members of tars from any tool (USTAR, PAX, GNU and Unix V7), listed and read without extracting anything.

The standard library's parser keeps an object of a kilobyte per member and takes about 100 us for each; this one
yields a small value and keeps nothing, as a list of a million files requires. Names stay bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from shards.errors import DataError
from shards.images.outcomes import Outcome
from shards.small_files import MAX_DIGITS, is_number
from shards.sources.archive_tree import MAX_NAME, Member
from shards.tars.ustar import BLOCK, checksum_fits, octal

# name, size, type, magic with version, prefix
FIELDS = struct.Struct("100s24x12s20xc100x8s80x155s12x")

POSIX = b"ustar\x00"

MAX_EXTENDED = 2**20  # bytes of a PAX header or a GNU long name

FOLDER, SYMLINK = b"5", b"2"

REGULAR = (b"0", b"\0", b"7")

PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"


def members(path: Path, descriptor: int) -> Iterator[Member]:
    """Yield all members of an open tar except folders.

    Raises:
        DataError: it is compressed, cut short, damaged, has no end marker, or has data after it; an extended header
            above `MAX_EXTENDED` bytes, or a name above `MAX_NAME`.
    """
    size, offset = os.fstat(descriptor).st_size, 0
    extended: dict[bytes, bytes] = {}
    while (block := os.pread(descriptor, BLOCK, offset)).count(0) != BLOCK:
        if len(block) < BLOCK or not checksum_fits(block):
            raise DataError(f"{path}: no tar header at byte {offset}; it is compressed, cut or damaged")
        name, size_field, kind, magic, prefix = FIELDS.unpack(block)
        try:
            length = int(extended.pop(b"size")) if b"size" in extended else _number(size_field)
        except ValueError as error:
            raise DataError(f"{path}: the size at byte {offset}: {error}") from None
        end = offset + BLOCK + -(-length // BLOCK) * BLOCK
        if end > size:
            raise DataError(f"{path}: ends inside the member at byte {offset}; it is cut short")
        if kind in (PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK):
            if kind in (PAX, LONG_NAME):
                extended.update(_extension(path, descriptor, offset=offset, length=length, kind=kind))
        elif kind != FOLDER:
            if magic.startswith(POSIX) and prefix[0]:
                name = _text(prefix) + b"/" + _text(name)
            name = extended.get(b"path") or _text(name)
            if len(name) > MAX_NAME:
                raise DataError(f"{path}: a name of {len(name)} bytes at byte {offset}, allowed are {MAX_NAME}")
            yield Member(name, length, str(offset), _refused(kind, extended))
            extended = {}
        else:
            extended = {}
        offset = end
    _check_end(path, descriptor, offset=offset, size=size)


def read_member(descriptor: int, *, location: str, size: int) -> bytes | None:
    """The content of a regular member, or None if there is no longer a member of that size at that offset."""
    data = os.pread(descriptor, BLOCK + size, int(location))
    if len(data) != BLOCK + size or not checksum_fits(data[:BLOCK]):
        return None
    _, size_field, kind, *_ = FIELDS.unpack(data[:BLOCK])
    try:
        return data[BLOCK:] if kind in REGULAR and _number(size_field) == size else None
    except ValueError:
        return None


def _extension(path: Path, descriptor: int, *, offset: int, length: int, kind: bytes) -> dict[bytes, bytes]:
    """The fields that an extended header sets for the next member."""
    if length > MAX_EXTENDED:
        raise DataError(f"{path}: an extended header of {length} bytes at byte {offset}, allowed are {MAX_EXTENDED}")
    data = os.pread(descriptor, length, offset + BLOCK)
    if kind == LONG_NAME:
        return {b"path": _text(data)}
    fields: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):  # each record is b"<its own length> <key>=<value>\n"
        space = data.find(b" ", at, at + MAX_DIGITS + 1)
        digits = data[at:space] if space > at else b""
        if not is_number(digits) or not len(digits) + 3 <= int(digits) <= len(data) - at:
            raise DataError(f"{path}: a damaged PAX header at byte {offset}")
        key, equals, value = data[space + 1 : at + int(digits) - 1].partition(b"=")
        if not equals or (key == b"size" and not is_number(value)):
            raise DataError(f"{path}: a damaged PAX header at byte {offset}")
        fields[key] = value
        at += int(digits)
    return fields


def _refused(kind: bytes, extended: dict[bytes, bytes]) -> Outcome | None:
    if kind == SYMLINK:
        return Outcome.SYMLINK
    sparse = any(key.startswith(b"GNU.sparse") for key in extended)
    return None if kind in REGULAR and not sparse else Outcome.NOT_REGULAR  # links, devices, sparse files


def _number(field: bytes) -> int:
    """The size in a header; raises ValueError if it is not a number."""
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else octal(field)  # 0x80: GNU's, above 8 GiB


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _check_end(path: Path, descriptor: int, *, offset: int, size: int) -> None:
    while offset < size:
        block = os.pread(descriptor, 2**20, offset)
        if block.count(0) != len(block):
            raise DataError(f"{path}: data after the end marker at byte {offset}; two tars in one file?")
        offset += len(block)
