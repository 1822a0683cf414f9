"""Reads insightface's `.bin` benchmarks, pickles of (encoded images, same person or not), without unpickling them.

Only the opcodes that build lists, tuples, bytes and booleans are interpreted; any other opcode is refused by name. No
name is looked up and no object is created, so a file cannot run code.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shards.errors import DataError

BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}

PYTHON_2_TEXT = {"BINSTRING", "SHORT_BINSTRING"}  # its `str`, which pickletools decodes as Latin-1

TEXT = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}

BOOLEANS = {"NEWTRUE", "NEWFALSE", "INT", "BININT1"}

TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}

GET = {"GET", "BINGET", "LONG_BINGET"}

NO_EFFECT = {"PROTO", "FRAME"}

ENCODE = "_codecs encode"  # how Python 3 writes bytes for Python 2: text and the codec Latin-1

_MARK, _ENCODE = object(), object()


@dataclass(frozen=True, kw_only=True)
class BinFile:
    """Image pairs: 2 N encoded images, two per pair, and N booleans, True for pairs of one person."""

    images: list[bytes]
    same: list[bool]


def read_bin(data: bytes, *, name: str) -> BinFile:
    """The content of a `.bin` file.

    Raises:
        DataError: it is damaged, has opcodes that could run code, or is not a list of images with one boolean per pair.
    """
    value = _PickleReader(name).value(data)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DataError(f"{name}: got {_kind(value)}; expected a pair of lists, images and same-or-not")
    images, same = value
    if not isinstance(images, list | tuple) or not all(isinstance(image, bytes) and image for image in images):
        raise DataError(f"{name}: its first list is not one of encoded images (bytes)")
    if not isinstance(same, list | tuple) or not all(
        isinstance(truth, bool | int) and truth in (0, 1) for truth in same
    ):
        raise DataError(f"{name}: its second list is not one of truth values")
    if len(images) != 2 * len(same) or not same:
        raise DataError(f"{name}: got {len(images)} images for {len(same)} pairs; expected two images per pair")
    return BinFile(images=list(images), same=[bool(truth) for truth in same])


class _PickleReader:
    """A pickle machine, with stack and memo, that knows only the opcodes for data."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.other: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self.stack.append(_MARK),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "LIST": lambda _: self.stack.append(self._to_mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self._to_mark())),
            "APPEND": lambda _: self._append([self.stack.pop()]),
            "APPENDS": lambda _: self._append(self._to_mark()),
            "GLOBAL": self._global,
            "REDUCE": lambda _: self._reduce(),
        }

    def value(self, data: bytes) -> Any:
        """The unpickled value; raises DataError."""
        try:
            for opcode, argument, _ in pickletools.genops(data):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._interpret(opcode.name, argument)
        except (ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.name}: not a complete .bin file ({error}); fetch it again") from None
        raise DataError(f"{self.name}: not a complete .bin file; fetch it again")

    def _interpret(self, opcode: str, argument: Any) -> None:
        if opcode in BYTES:
            self.stack.append(bytes(argument))
        elif opcode in PYTHON_2_TEXT:
            self.stack.append(argument.encode("latin-1"))
        elif opcode in TEXT:
            self.stack.append(argument)
        elif opcode in BOOLEANS:
            self.stack.append(argument if opcode in ("INT", "BININT1") else opcode == "NEWTRUE")
        elif opcode in TUPLES:
            first = len(self.stack) - TUPLES[opcode]
            self.stack[first:] = [tuple(self.stack[first:])]
        elif opcode in PUT:
            self.memo[len(self.memo) if opcode == "MEMOIZE" else argument] = self.stack[-1]
        elif opcode in GET:
            self.stack.append(self.memo[argument])
        elif opcode in self.other:
            self.other[opcode](argument)
        elif opcode not in NO_EFFECT:
            self._refuse(opcode, argument)

    def _to_mark(self) -> list[Any]:
        at = max(index for index, value in enumerate(self.stack) if value is _MARK)
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _append(self, values: list[Any]) -> None:
        self.stack[-1].extend(values)

    def _global(self, argument: Any) -> None:
        if argument != ENCODE:
            self._refuse("GLOBAL", argument)
        self.stack.append(_ENCODE)

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function is not _ENCODE or len(arguments) != 2 or arguments[1] != "latin1":
            self._refuse("REDUCE", arguments)
        self.stack.append(arguments[0].encode("latin-1"))

    def _refuse(self, opcode: str, argument: Any) -> None:
        what = f"{opcode} {argument}" if isinstance(argument, str) else opcode
        raise DataError(
            f"{self.name}: holds {what[:60]!r}, which is neither an image nor a boolean, and is not executed; "
            "expected a list of encoded images and a list of truth values"
        )


def _kind(value: object) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | tuple) else type(value).__name__
