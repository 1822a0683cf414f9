"""Members of zip files from any tool, listed and read without extracting anything."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from shards.errors import DataError, parsing
from shards.images.faces import MAX_FILE_BYTES, Face, UnreadableFaceError
from shards.images.outcomes import Outcome
from shards.sources.archive_tree import MAX_NAME, Member

LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, lengths of name and extra field

MAGIC = b"PK\x03\x04"

# Records at the end of a zip file, each from its magic to the size of the directory: the usual one, and that of zip64.
END, END_64 = struct.Struct("<4s8xI"), struct.Struct("<4s36xQ")

END_BYTES = 2**16 + 98  # the longest comment, and both records with zip64's locator

MAX_DIRECTORY = 2**27  # bytes; two million members, for which the standard library takes 1.4 GB

ENCRYPTED, UTF8 = 0x1, 0x800

MS_DOS, UNIX = 0, 3


def members(path: Path) -> Iterator[Member]:
    """Yield all members except folders.

    Raises:
        DataError: not a zip file, damaged, or split into several files; its directory has more than `MAX_DIRECTORY`
            bytes, or a name more than `MAX_NAME`.
    """
    _check_directory(path)
    with parsing(path, kind="a readable zip file"):
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
        names = [info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437") for info in found]
    for info, name in zip(found, names, strict=True):  # the bytes in the file
        if len(name) > MAX_NAME:
            raise DataError(f"{path}: a name of {len(name)} bytes, allowed are {MAX_NAME}")
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
    place, _, rest = face.location.partition("+")
    at = int(place)
    packed, method, crc = map(int, rest.split(","))
    if not 0 <= at < os.fstat(descriptor).st_size or packed > MAX_FILE_BYTES:  # sizes of zip64 may be any
        raise UnreadableFaceError(Outcome.CORRUPT, f"{face.path}: {packed} bytes at byte {at} are not in the archive")
    header = os.pread(descriptor, LOCAL_HEADER.size, at)
    if not header.startswith(MAGIC) or len(header) < LOCAL_HEADER.size:
        raise UnreadableFaceError(Outcome.CHANGED, f"{face.path}: has moved or changed in the archive")
    _, name, extra = LOCAL_HEADER.unpack(header)
    data = os.pread(descriptor, packed, at + LOCAL_HEADER.size + name + extra)
    if method == zipfile.ZIP_DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, face.bytes + 1)
        except zlib.error as error:
            raise UnreadableFaceError(Outcome.CORRUPT, f"{face.path}: {error}") from None
    if len(data) != face.bytes or zlib.crc32(data) != crc:
        raise UnreadableFaceError(Outcome.CORRUPT, f"{face.path}: its size or checksum differs from the zip file's")
    return data


def _check_directory(path: Path) -> None:
    """Refuse a directory that would not fit into memory; one that is damaged is left to the parser."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - END_BYTES))
        tail = file.read(END_BYTES)
    for record, magic in ((END, b"PK\x05\x06"), (END_64, b"PK\x06\x06")):
        at = tail.rfind(magic)
        if at < 0 or at + record.size > len(tail):
            continue
        _, size = record.unpack_from(tail, at)
        if size > MAX_DIRECTORY and not (record is END and size == 2**32 - 1):  # the latter: see the zip64 record
            raise DataError(f"{path}: a directory of {size} bytes, allowed are {MAX_DIRECTORY}; split the archive")


def _refused(info: zipfile.ZipInfo) -> Outcome | None:
    mode = info.external_attr >> 16 if info.create_system == UNIX else 0
    if stat.S_ISLNK(mode):
        return Outcome.SYMLINK
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Outcome.NOT_REGULAR
    readable = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & ENCRYPTED
    return None if readable else Outcome.UNREADABLE
