"""Headers of plain USTAR archives (POSIX.1-1988), written and parsed strictly.

The standard library's code understands a dozen dialects and costs several times as much per member; a data set of a
million images has two million members to write, and to check before training starts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BLOCK = 512

# name, size, checksum, type, magic with version, owner, prefix; the other fields do not affect the content
FIELDS = struct.Struct("100s24x12s12x8sc100x8s32s48x155s12x")

CHECKSUM = slice(148, 156)

MAGIC = b"ustar\x0000"

REGULAR = (b"0", b"\0")

MAX_BYTES = 8**11 - 1  # of a member: eleven octal digits

# The fixed fields of every member that is written: mode 0644, owner 0, time 0, regular, no link, no names, no device.
_BEFORE_SIZE = b"0000644\0" + b"0000000\0" * 2

_AFTER_SIZE = b"00000000000\0"

_BEFORE_OWNER, _AFTER_OWNER = b"0" + bytes(100) + MAGIC, bytes(32 + 16 + 155 + 12)

# Owner of the members of tars that hold real faces. Readers of tars ignore it where there is no such user.
PRIVATE_OWNER = b"private-real-faces"

_AFTER_CHECKSUM = {
    private: _BEFORE_OWNER + (PRIVATE_OWNER if private else b"").ljust(32, b"\0") + _AFTER_OWNER
    for private in (False, True)
}

_FIXED_SUM = {
    private: sum(_BEFORE_SIZE) + sum(_AFTER_SIZE) + 8 * ord(" ") + sum(fields)
    for private, fields in _AFTER_CHECKSUM.items()
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Name and size (bytes) of a member, whether it is a regular file, and whether it is marked as a real face's."""

    name: str
    bytes: int
    regular: bool
    private: bool = False

    @property
    def padded(self) -> int:
        """Bytes up to the next header."""
        return -(-self.bytes // BLOCK) * BLOCK


def header(name: str, size: int, *, private: bool = False) -> bytes:
    """The header block of a regular member; `name` is ASCII of at most 100 characters, `private` marks real faces."""
    assert len(name) <= 100
    assert size <= MAX_BYTES
    start, digits = name.encode("ascii"), b"%011o\0" % size
    checksum = b"%06o\0 " % (sum(start) + sum(digits) + _FIXED_SUM[private])
    after = _AFTER_CHECKSUM[private]
    return b"".join((start.ljust(100, b"\0"), _BEFORE_SIZE, digits, _AFTER_SIZE, checksum, after))


def parse(block: bytes) -> Header | None:
    """The header in a block, or None if the block is zeros: the end marker.

    Raises:
        ValueError: fewer than 512 bytes, a wrong checksum, another dialect or a size that is not an octal number.
    """
    if len(block) != BLOCK:
        raise ValueError(f"{len(block)} bytes instead of {BLOCK}")
    if block.count(0) == BLOCK:
        return None
    if not checksum_fits(block):
        raise ValueError("wrong checksum")
    name, size, _, kind, magic, owner, prefix = FIELDS.unpack(block)
    if magic != MAGIC:
        raise ValueError("not plain USTAR; repack it with tar --format=ustar")
    path = b"/".join(part.partition(b"\0")[0] for part in (prefix, name) if part[0])
    private = owner.rstrip(b"\0") == PRIVATE_OWNER
    return Header(
        name=path.decode("ascii", "backslashreplace"), bytes=octal(size), regular=kind in REGULAR, private=private
    )


def is_marked(block: bytes) -> bool:
    """Whether a header, of whatever dialect, has the mark of tars with real faces."""
    return FIELDS.unpack(block)[5].rstrip(b"\0") == PRIVATE_OWNER if len(block) == BLOCK else False


def checksum_fits(block: bytes) -> bool:
    """Whether a block is a tar header, of whatever dialect."""
    try:
        return octal(block[CHECKSUM]) == sum(block) - sum(block[CHECKSUM]) + 8 * ord(" ")
    except ValueError:
        return False


def octal(field: bytes) -> int:
    """The number in a header field.

    Raises:
        ValueError: it is not an octal number.
    """
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise ValueError(f"{field!r} is not an octal number")
    return int(digits, 8)
