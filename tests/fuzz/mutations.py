"""Mutations of files: bytes, numbers and pieces, and the checksums that would hide them are made right again."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

from shards.tars import ustar

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**29 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62)
NUMBERS += (2**63 - 1, 2**63, 2**64 - 1)
DIGITS = ("-1", "9" * 20, "9" * 5000, "1e999", "0.5", "NaN", "1_0", "\u00b2", "0x10", "")
TOKENS = (b"\0", b"\n", b"\r", b"\xff", b"\xed\xa0\x80", b"../", b"/", b"\\", b"(t" * 50, b"[" * 300, b"{" * 300, b"]")
TOKENS += (b"\x80", b"-", b"\x00" * 512, b"null", b'"', b"\t", b" ", b",", b":", b"PK\x05\x06", b"cos\nsystem\n", b"R.")
DIGIT_RUN = re.compile(rb"[0-9]+")


def mutated(data: bytes, draw: random.Random, *, other: bytes = b"") -> bytes:
    """The data after one to four changes; `other` is a second file that pieces may come from."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        draw.choice(CHANGES)(changed, draw, other)
    return _with_checks(bytes(changed), data, draw)


def _flip(data: bytearray, draw: random.Random, other: bytes) -> None:
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _set_byte(data: bytearray, draw: random.Random, other: bytes) -> None:
    if data:
        data[draw.randrange(len(data))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _number(data: bytearray, draw: random.Random, other: bytes) -> None:
    size = draw.choice((2, 4, 8))
    if len(data) > size:
        at = draw.randrange(len(data) - size)
        value = draw.choice(NUMBERS) & 256**size - 1
        data[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))


def _digits(data: bytearray, draw: random.Random, other: bytes) -> None:
    """Another number in the place of one in digits."""
    runs = list(DIGIT_RUN.finditer(data[: 2**16]))
    if runs:
        run = draw.choice(runs)
        text = draw.choice((*DIGITS, str(draw.choice(NUMBERS))))
        data[run.start() : run.end()] = text.encode()


def _octal(data: bytearray, draw: random.Random, other: bytes) -> None:
    """A size in a tar header, in base 256 or in digits."""
    if len(data) >= ustar.BLOCK:
        at = 512 * draw.randrange(len(data) // 512) + 124
        value = draw.choice(NUMBERS)
        data[at : at + 12] = draw.choice(
            (b"\x80" + value.to_bytes(11, "big"), b"\xff" * 12, b"%011o\0" % (value % 8**11))
        )


def _remove(data: bytearray, draw: random.Random, other: bytes) -> None:
    at = draw.randrange(len(data) + 1)
    del data[at : at + draw.choice((1, 2, 4, 16, 512))]


def _cut(data: bytearray, draw: random.Random, other: bytes) -> None:
    del data[draw.randrange(len(data) + 1) :]


def _repeat(data: bytearray, draw: random.Random, other: bytes) -> None:
    at, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 64, 512))
    data[at:at] = data[at : at + size] * draw.choice((1, 1, 2, 100))


def _insert(data: bytearray, draw: random.Random, other: bytes) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice(TOKENS)


def _overwrite(data: bytearray, draw: random.Random, other: bytes) -> None:
    token, at = draw.choice(TOKENS), draw.randrange(len(data) + 1)
    data[at : at + len(token)] = token


def _swap(data: bytearray, draw: random.Random, other: bytes) -> None:
    size = draw.choice((1, 4, 8, 32))
    if len(data) > 2 * size:
        a, b = sorted(draw.sample(range(len(data) - size), 2))
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _piece(data: bytearray, draw: random.Random, other: bytes) -> None:
    at, start = draw.randrange(len(data) + 1), draw.randrange(len(other) + 1)
    size = draw.choice((8, 64, 512))
    data[at : at + size] = other[start : start + size]


Change = Callable[[bytearray, random.Random, bytes], None]
CHANGES: tuple[Change, ...] = (
    *(_flip, _set_byte, _number, _number, _digits, _digits, _octal),
    *(_remove, _cut, _repeat, _insert, _insert, _overwrite, _swap, _piece),
)


def _with_checks(data: bytes, before: bytes, draw: random.Random) -> bytes:
    """In two of three cases with right checksums, so that what lies behind them is reached."""
    if draw.random() < 1 / 3:
        return data
    if before[257:262] == b"ustar":
        return _tar_checks(data, before)
    if before.startswith(b"\x89PNG"):
        return _png_checks(data)
    if before.startswith(b"PK\x03\x04"):
        return _packed_again(before, draw)
    if before[8:9] == b"{" and len(data) > 8:  # safetensors
        end = data.rfind(b"}}") + 2
        return struct.pack("<Q", max(0, end - 8)) + data[8:] if end > 2 else data
    return data


def _tar_checks(data: bytes, before: bytes) -> bytes:
    """With the checksum of every block that was a header."""
    whole = bytearray(data)
    for at in range(0, len(before) - 511, 512):
        block = bytearray(whole[at : at + 512])
        if ustar.checksum_fits(before[at : at + 512]) and any(block) and len(block) == 512:
            block[148:156] = b"        "
            whole[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(whole)


def _png_checks(data: bytes) -> bytes:
    whole, at = bytearray(data), 8
    while at + 12 <= len(whole):
        size = int.from_bytes(whole[at : at + 4], "big")
        if at + 12 + size > len(whole):
            break
        whole[at + 8 + size : at + 12 + size] = struct.pack(">I", zlib.crc32(whole[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(whole)


def _packed_again(before: bytes, draw: random.Random) -> bytes:
    """The zip with one changed member, packed with right sizes and checksums."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(before)) as old, zipfile.ZipFile(packed, "w") as new:
        members = old.infolist()
        chosen = draw.choice([member for member in members if member.file_size] or members)
        for member in members:
            content = bytearray(old.read(member))
            for _ in range(draw.randrange(1, 4) if member is chosen else 0):
                draw.choice(CHANGES)(content, draw, before)
            new.writestr(zipfile.ZipInfo(member.filename), bytes(content))
    return packed.getvalue()
