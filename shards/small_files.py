"""Files that are read whole, such as lists and manifests: regular files up to a stated size."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from shards.errors import DataError

MAX_DIGITS = 18  # of a number in a text: it fits 64 bits; python refuses to parse numbers of thousands of digits


def read_whole(path: Path, *, limit: int) -> bytes:
    """The content of a file. A FIFO is refused, not waited for; a larger file is not read at all.

    Raises:
        DataError: it is not a regular file of at most `limit` bytes, or cannot be read.
        FileNotFoundError: there is no such file.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DataError(f"{path}: not a regular file; give one")
            if found.st_size > limit:
                raise DataError(f"{path}: {found.st_size} bytes, allowed are {limit}; is it another file?")
            return file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r}: {error}") from None  # NUL or a lone surrogate in the path


def read_lines(path: Path, *, limit: int, errors: str = "strict") -> str:
    """The text of a UTF-8 file with line feeds at the ends of its lines, without a byte-order mark, as `read_whole`.

    UTF-16 is read as well if it has its mark, as spreadsheets write it.

    Raises:
        DataError: as `read_whole`, or it is not UTF-8.
        FileNotFoundError: there is no such file.
    """
    try:
        text = without_mark(read_whole(path, limit=limit)).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file ({error}); save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_mark(data: bytes) -> bytes:
    """A text without a byte-order mark at its start, as UTF-8 if the mark is that of UTF-16."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def is_number(text: str | bytes) -> bool:
    """Whether a text is a whole number of at most `MAX_DIGITS` ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def with_slashes(paths: Sequence[str]) -> list[str]:
    """The paths of a list; with slashes if all of them have backslashes alone, as lists written on Windows do."""
    windows = all("\\" in path and "/" not in path for path in paths)
    return [path.replace("\\", "/") if windows else path for path in paths]
