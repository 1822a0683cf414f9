"""What a file is by its name. Only for files that are no listed face: of faces, the content alone decides."""

from __future__ import annotations

import re

# Lower-case suffixes.
IMAGES = {b"jpg", b"jpeg", b"jpe", b"jfif", b"png", b"webp", b"ppm", b"pgm", b"pnm"}

OTHER_IMAGES = {b"bmp", b"gif", b"tif", b"tiff", b"avif", b"heic", b"heif", b"jp2", b"jxl"}

ARCHIVES = {b"tar", b"zip", b"tgz", b"taz", b"tbz", b"tbz2", b"txz", b"tlz", b"tzst", b"z01", b"rar", b"7z", b"cpio",
            b"iso", b"dmg", b"cab", b"wim", b"squashfs", b"sqfs", b"tfrecord", b"tfrecords"}  # fmt: skip

# Suffixes behind that of an archive: compressed, encrypted, or not whole. Not `.md5`, `.idx` and their like.
WRAPPED = {b"gz", b"bz2", b"xz", b"zst", b"lz4", b"lzma", b"lz", b"z", b"br", b"gpg",
           b"part", b"partial", b"filepart", b"tmp", b"crdownload", b"download", b"aria2", b"aa", b"ab"}  # fmt: skip

NUMBERED = re.compile(rb"(part)?[0-9]+")  # of split archives: a.zip.001, a.tar.gz.part1

COMPRESSED = {b"gz", b"bz2", b"xz", b"zst"}  # alone they may be of an archive: faces.gz, but not list.csv.gz

READABLE = (b".tar", b".zip")  # archives that are read


def is_image(name: bytes) -> bool:
    """Whether a file has the name of an image, of a format that is read or not."""
    return name.rpartition(b".")[2].lower() in IMAGES | OTHER_IMAGES


def is_archive(name: bytes) -> bool:
    """Whether a file has the name of an archive: a.zip, a.tar.gz, a.zip.001, a.tar.part, a.gz."""
    suffixes = name.lower().split(b".")[1:]
    while suffixes and (suffixes[-1] in WRAPPED or NUMBERED.fullmatch(suffixes[-1])):
        last = suffixes.pop()
        if not suffixes and last in COMPRESSED:
            return True
    return bool(suffixes) and suffixes[-1] in ARCHIVES
