"""Arrays and numbers of numpy in a pickle, as plain values: no name is looked up, and numpy is not called.

A pickle holds an array as calls of a few functions with the type, the shape and the bytes of the elements. The reader
of pickles keeps the names as `Name` and gives such calls to `call`, and states to `build`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

BYTES = "u1"

INTEGERS = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q", "b1": "?"}

MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric", "numpy")

FUNCTIONS = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")


@dataclass(frozen=True)
class Name:
    """A function of numpy that a pickle names."""

    function: str


@dataclass
class Type:
    """A type of elements, such as u1 or b1, and whether its bytes are in reverse order."""

    code: str
    order: str = "<"


@dataclass
class Array:
    """An array: its shape, the type of its elements, and their bytes; or the elements, if they are objects."""

    shape: tuple[int, ...] = ()
    type: Type | None = None
    data: Any = b""


def name_of(module: str, name: str) -> Name | None:
    """The function, if it is one of those that arrays are stored with."""
    return Name(name) if module in MODULES and name in FUNCTIONS else None


def call(function: Name, arguments: Any) -> Any:
    """What a function gives for arguments from a pickle; ValueError if it is another use of it."""
    match function.function, tuple(arguments):
        case "_reconstruct", (Name(function="ndarray"), *_):
            return Array()
        case "dtype", (str() | bytes() as code, *_):
            return Type((code if isinstance(code, str) else code.decode("ascii")).lstrip("|<>="))
        case "scalar", (Type() as kind, bytes() as data):
            return _numbers(kind, data)[0]
        case "_frombuffer", (bytes() as data, Type() as kind, tuple() as shape, *_):
            return plain(Array(shape=shape, type=kind, data=data))
    raise ValueError(f"a call of numpy's {function.function} that stores no array")


def build(value: Any, state: Any) -> None:
    """Give an array or a type its state; ValueError if it is none."""
    match value, state:
        case Array(), (int(), tuple() as shape, Type() as kind, _, bytes() | list() as data):
            value.shape, value.type, value.data = shape, kind, data
        case Type(), (int(), str() | bytes() as order, *_):
            value.order = order if isinstance(order, str) else order.decode("ascii")
        case _:
            raise ValueError("a state of no array")


def plain(value: Any) -> Any:
    """Bytes for an array of bytes, a list for any other array of one dimension; other values as they are.

    Raises:
        ValueError: another array.
    """
    if not isinstance(value, Array):
        return value
    if len(value.shape) != 1 or value.type is None:
        raise ValueError(f"an array of {len(value.shape)} dimensions")
    if isinstance(value.data, list):
        return value.data
    return value.data if value.type.code == BYTES else _numbers(value.type, value.data)


def _numbers(kind: Type, data: bytes) -> list[Any]:
    code = INTEGERS.get(kind.code)
    if code is None:
        raise ValueError(f"elements of the type {kind.code}")
    one = struct.Struct((">" if kind.order == ">" else "<") + code)
    if len(data) % one.size:
        raise ValueError(f"{len(data)} bytes of elements of the type {kind.code}")
    return [value for (value,) in one.iter_unpack(data)]
