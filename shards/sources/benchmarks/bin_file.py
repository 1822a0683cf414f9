"""Reads insightface's `.bin` benchmarks, pickles of (encoded images, same person or not), without unpickling them.

Only the opcodes that build lists, tuples, bytes, numbers and arrays of numpy are interpreted; any other is refused by
name. No name is looked up and no object of a file's choice is created, so a file cannot run code. Time and memory are
linear in the size of the file, which is limited, as are the number of opcodes, the bytes that are made from text, and
how often an image repeats.
"""

from __future__ import annotations

import codecs
import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from shards.errors import DataError, parsing, shown
from shards.sources.benchmarks import pickled_arrays

BYTES = {"STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}

PYTHON_2_TEXT = {"BINSTRING", "SHORT_BINSTRING"}  # its `str`, which pickletools decodes as Latin-1

TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}

CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}

NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}

TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}

GET = {"GET", "BINGET", "LONG_BINGET"}

NO_EFFECT = {"PROTO", "FRAME"}

ENCODE = "_codecs encode"  # how Python 3 writes bytes for Python 2: text and the codec Latin-1

MAX_BYTES = 2**29  # of a file; the largest of the common benchmarks has 190 MB

MAX_OPCODES = 2_000_000  # of a file; 200,000 images in the longest form

MAX_REPEATS = 100  # times that the images together may be larger than the file, as one may be in several pairs

OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}

_ENCODE = object()

CONVERT = (
    "expected images as bytes and truth values: if you trust the file, load it with the Python and numpy that wrote it "
    "and store pickle.dumps(([bytes(i) for i in images], [bool(s) for s in same])) as the .bin file"
)

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, kw_only=True)
class BinFile:
    """Image pairs: 2 N encoded images, two per pair, and N booleans, True for pairs of one person."""

    images: list[bytes]
    same: list[bool]


def read_bin(data: bytes, *, name: str) -> BinFile:
    """The content of a `.bin` file.

    Raises:
        DataError: it is damaged, has opcodes that could run code, is not a list of images with one boolean per pair,
            or is above a limit.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: {len(data)} bytes, allowed are {MAX_BYTES}; is it another file?")
    value = _PickleReader(name).value(data)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DataError(f"{name}: got {_kind(value)}; expected a pair of lists, images and same-or-not")
    try:
        images, same = (pickled_arrays.plain(part) for part in value)
        images = [pickled_arrays.plain(image) for image in images] if isinstance(images, list | tuple) else images
    except ValueError as error:
        raise DataError(f"{name}: holds {shown(str(error))}; {CONVERT}") from None
    if not isinstance(images, list | tuple) or not all(isinstance(image, bytes) and image for image in images):
        raise DataError(f"{name}: its first list is not one of encoded images (bytes)")
    if not isinstance(same, list | tuple) or not all(
        isinstance(truth, bool | int) and truth in (0, 1) for truth in same
    ):
        raise DataError(f"{name}: its second list is not one of truth values")
    if len(images) != 2 * len(same) or not same:
        raise DataError(f"{name}: got {len(images)} images for {len(same)} pairs; expected two images per pair")
    if sum(map(len, images)) > MAX_REPEATS * len(data):
        raise DataError(f"{name}: its images repeat to more than {MAX_REPEATS} times the file; it is no benchmark")
    return BinFile(images=list(images), same=[bool(truth) for truth in same])


class _PickleReader:
    """A pickle machine, with stack and memo, that knows only the opcodes for data."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.marks: list[int] = []  # lengths of the stack at the open marks
        self.memo: dict[int, Any] = {}
        self.from_text = 0  # bytes
        self.other: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "LIST": lambda _: self.stack.append(self._to_mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self._to_mark())),
            "APPEND": lambda _: self._append([self.stack.pop()]),
            "APPENDS": lambda _: self._append(self._to_mark()),
            "GLOBAL": self._global,
            "STACK_GLOBAL": lambda _: self._stack_global(),
            "BUILD": lambda _: self._build(),
            "REDUCE": lambda _: self._reduce(),
        }

    def value(self, data: bytes) -> Any:
        """The unpickled value; raises DataError."""
        with parsing(self.name, kind="a complete .bin file"):
            for count, (opcode, argument) in enumerate(_opcodes(data)):
                if opcode == "STOP":
                    return self.stack.pop()
                if count == MAX_OPCODES:
                    raise DataError(f"{self.name}: more than {MAX_OPCODES} opcodes; it is no benchmark")
                self._interpret(opcode, argument)
                if self.from_text > len(data):  # one text, encoded again and again
                    raise DataError(f"{self.name}: its images are larger than the file; it is no benchmark")
        raise DataError(f"{self.name}: not a complete .bin file; fetch it again")

    def _interpret(self, opcode: str, argument: Any) -> None:
        if opcode in BYTES:
            self.stack.append(bytes(argument))
        elif opcode in PYTHON_2_TEXT:
            self.stack.append(argument.encode("latin-1"))
        elif opcode in TEXT or opcode in NUMBERS:
            self.stack.append(argument)
        elif opcode in CONSTANTS:
            self.stack.append(CONSTANTS[opcode])
        elif opcode in TUPLES:
            values = [self.stack.pop() for _ in range(TUPLES[opcode])]
            self.stack.append(tuple(reversed(values)))
        elif opcode in PUT:
            self.memo[len(self.memo) if opcode == "MEMOIZE" else argument] = self.stack[-1]
        elif opcode in GET:
            self.stack.append(self.memo[argument])
        elif opcode in self.other:
            self.other[opcode](argument)
        elif opcode not in NO_EFFECT:
            self._refuse(opcode, argument)

    def _to_mark(self) -> list[Any]:
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def _append(self, values: list[Any]) -> None:
        self.stack[-1].extend(values)

    def _global(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        known = _ENCODE if argument == ENCODE else pickled_arrays.name_of(module, name)
        if known is None:
            self._refuse("GLOBAL", argument)
        self.stack.append(known)

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):  # printing a list that holds itself has no end
            self._refuse("STACK_GLOBAL", None)
        self._global(f"{module} {name}")

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if isinstance(function, pickled_arrays.Name):
            self.stack.append(self._array(lambda: pickled_arrays.call(function, arguments)))
            return
        if function is not _ENCODE or len(arguments) != 2 or arguments[1] != "latin1":
            self._refuse("REDUCE", arguments)
        self.stack.append(arguments[0].encode("latin-1"))
        self.from_text += len(self.stack[-1])

    def _build(self) -> None:
        state = self.stack.pop()
        self._array(lambda: pickled_arrays.build(self.stack[-1], state))

    def _array(self, read: Callable[[], ValueT]) -> ValueT:
        try:
            return read()
        except ValueError as error:
            raise DataError(f"{self.name}: holds {shown(str(error))}; {CONVERT}") from None

    def _refuse(self, opcode: str, argument: Any) -> NoReturn:
        what = f"{opcode} {argument}" if isinstance(argument, str) else opcode
        raise DataError(
            f"{self.name}: holds {shown(what, limit=60)!r}, which is neither an image nor a boolean, and not executed; "
            f"{CONVERT}"
        )


def _opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """The opcodes of a pickle and their arguments, as pickletools reads them; but text of Python 2 stays bytes."""
    file = io.BytesIO(data)
    while code := file.read(1):
        opcode = OPCODES[code.decode("latin-1")]
        if opcode.name == "STRING":  # pickletools refuses bytes above 127
            line = file.readline().strip()
            if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
                raise ValueError("a string without quotes")
            yield opcode.name, codecs.escape_decode(line[1:-1])[0]
        else:
            yield opcode.name, opcode.arg.reader(file) if opcode.arg else None
        if opcode.name == "STOP":
            return


def _kind(value: object) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | tuple) else type(value).__name__
