"""What a JPEG holds beside its picture: EXIF, comments, profiles, thumbnails, bytes after the end."""

from __future__ import annotations

from shards.images.headers import JPEG_MAGIC

START, END, SCAN = 0xD8, 0xD9, 0xDA

TABLES = {0xDB, 0xC4, 0xDD}  # quantization, Huffman, restart interval

FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive

JFIF, JFIF_BYTES = 0xE0, 14  # without a thumbnail: name, version, density, size 0 x 0 of the thumbnail

RESTARTS = range(0xD0, 0xD8)  # inside of a scan, like an escaped 0xFF


def foreign_segment(jpeg: bytes) -> str | None:
    """The first part of a JPEG that a decoder of the picture does not need; None if there is none."""
    if not jpeg.startswith(JPEG_MAGIC):
        return "no JPEG header"
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        kind, size = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        content = jpeg[at + 4 : at + 2 + size]
        plain_jfif = kind == JFIF and len(content) == JFIF_BYTES and content.startswith(b"JFIF\0")
        if kind not in TABLES | FRAMES | {SCAN} and not plain_jfif:
            return f"a segment 0x{kind:02x} of {size} bytes"
        at += 2 + size
        if kind == SCAN:
            at = _end_of_scan(jpeg, at)
            if jpeg[at : at + 2] == bytes((0xFF, END)):
                rest = len(jpeg) - at - 2
                return f"{rest} bytes after its end" if rest else None
    return "no end"


def _end_of_scan(jpeg: bytes, at: int) -> int:
    """Where the next marker after the compressed data begins, or the end of the file."""
    while True:
        at = jpeg.find(b"\xff", at)
        if at < 0 or at + 1 >= len(jpeg):
            return len(jpeg)
        if jpeg[at + 1] != 0 and jpeg[at + 1] not in RESTARTS:
            return at
        at += 2
