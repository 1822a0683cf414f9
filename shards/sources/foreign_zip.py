"""Members of zip files from any tool, listed and read without extracting anything."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from shards.errors import DataError
from shards.images.faces import Face, UnreadableFaceError
from shards.images.outcomes import Outcome
from shards.sources.archive_tree import Member

LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, lengths of name and extra field

MAGIC = b"PK\x03\x04"

ENCRYPTED, UTF8 = 0x1, 0x800

MS_DOS, UNIX = 0, 3


def members(path: Path) -> Iterator[Member]:
    """Yield all members except folders.

    Raises:
        DataError: not a zip file, damaged, or split into several files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable zip file: {error}") from None
    for info in found:
        name = info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437")  # the bytes in the file
        if info.create_system == MS_DOS:  # no Windows file name has a backslash, but some archivers write them
            name = name.replace(b"\\", b"/")
        if not name.endswith(b"/"):
            place = f"{info.header_offset}+{info.compress_size},{info.compress_type},{info.CRC}"
            yield Member(name, info.file_size, place, _refused(info))


def read_member(descriptor: int, face: Face) -> bytes:
    """The content of a member.

    Raises:
        UnreadableFaceError: the archive has changed, or the content is damaged.
    """
    at, _, rest = face.location.partition("+")
    packed, method, crc = map(int, rest.split(","))
    header = os.pread(descriptor, LOCAL_HEADER.size, int(at))
    if not header.startswith(MAGIC) or len(header) < LOCAL_HEADER.size:
        raise UnreadableFaceError(Outcome.CHANGED, f"{face.path}: has moved or changed in the archive")
    _, name, extra = LOCAL_HEADER.unpack(header)
    data = os.pread(descriptor, packed, int(at) + LOCAL_HEADER.size + name + extra)
    if method == zipfile.ZIP_DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, face.bytes + 1)
        except zlib.error as error:
            raise UnreadableFaceError(Outcome.CORRUPT, f"{face.path}: {error}") from None
    if len(data) != face.bytes or zlib.crc32(data) != crc:
        raise UnreadableFaceError(Outcome.CORRUPT, f"{face.path}: its size or checksum differs from the zip file's")
    return data


def _refused(info: zipfile.ZipInfo) -> Outcome | None:
    mode = info.external_attr >> 16 if info.create_system == UNIX else 0
    if stat.S_ISLNK(mode):
        return Outcome.SYMLINK
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Outcome.NOT_REGULAR
    readable = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & ENCRYPTED
    return None if readable else Outcome.UNREADABLE
