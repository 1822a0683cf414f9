"""Reads the official pickles of StyleGAN2 and StyleGAN3 without executing anything that they hold.

The files store the source code of their classes beside the weights. A reader that knows a short list of names takes the
tensors and plain values and leaves the code alone; any other name is refused. Stands-in of this module take the place
of everything that is named: nothing is imported, and no function of another package is called, but `torch.load` with
weights_only=True for the storages inside.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from cemiface.errors import ModelError

NUMBERS = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"}
NUMBERS |= {"i8": "q", "u8": "Q", "b1": "?"}
MOST_NUMBERS = 2**20  # bytes of an array of numpy; those of the files hold two sizes


class Attributes(dict[str, Any]):
    """A dict whose items the official code also reads as attributes."""


@dataclass
class Stored:
    """An object of the official code: the name of its class, and its attributes."""

    name: str
    state: Mapping[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """Its parameters and buffers, and those of the modules inside it, by their dotted names.

        Raises:
            ValueError: a module is inside of it twice.
        """
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        left = [("", self)]
        while left:
            prefix, module = left.pop()
            if id(module) in seen:
                raise ValueError("a module that is there twice")
            seen.add(id(module))
            own = {**module._part("_parameters"), **module._part("_buffers")}
            found |= {f"{prefix}{name}": tensor for name, tensor in own.items() if isinstance(tensor, Tensor)}
            left += [(f"{prefix}{name}.", inner) for name, inner in module.modules().items()]
        return found

    def modules(self) -> dict[str, Stored]:
        """The modules directly inside it."""
        return {name: module for name, module in self._part("_modules").items() if isinstance(module, Stored)}

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self.state.get(name)
        if not isinstance(part, Mapping):
            return {}
        if not all(isinstance(key, str) and key.isidentifier() for key in part):
            raise ValueError(f"{name} with names that are none")
        return part


@dataclass
class Type:
    """A type of numpy's numbers."""

    code: str
    order: str = "<"

    def __setstate__(self, state: Any) -> None:
        match state:
            case (int(), str() as order, *_):
                self.order = ">" if order == ">" else "<"
            case _:
                raise ValueError("a type of numpy in an unknown form")

    def numbers(self, data: bytes) -> list[Any]:
        """The numbers in these bytes."""
        code = NUMBERS.get(self.code)
        if code is None or len(data) > MOST_NUMBERS:
            raise ValueError(f"{len(data)} bytes of numpy's type {self.code[:20]!r}")
        return [value for (value,) in struct.iter_unpack(self.order + code, data)]


@dataclass
class Array:
    """An array of numpy; only its numbers are kept."""

    numbers: list[Any] = field(default_factory=list)

    def __setstate__(self, state: Any) -> None:
        match state:
            case (int(), tuple(), Type() as kind, _, bytes() as data):
                self.numbers = kind.numbers(data)
            case _:
                raise ValueError("an array of numpy in an unknown form")


def _persistent(meta: Any) -> Stored:
    if not isinstance(meta, Mapping) or not isinstance(meta.get("state"), Mapping):
        raise ValueError("an object without its attributes")
    return Stored(name=str(meta.get("class_name", ""))[:80], state=meta["state"])


def _storage(data: Any) -> Tensor:
    """A storage as a flat tensor. Each one is a stream of its own in the pickle."""
    if not isinstance(data, bytes):
        raise ValueError("a storage that is no stream of bytes")
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise ValueError("a stream that holds no storage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it will give typed storages up
        plain, dtype = storage.untyped(), storage.dtype
    if plain.nbytes() > len(data):
        raise ValueError("a storage that is larger than its stream")
    return torch.empty(0, dtype=dtype).set_(plain, 0, (plain.nbytes() // dtype.itemsize,), (1,))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor) or math.prod(size) > storage.numel():
        raise ValueError(f"a tensor of shape {size}, more than its storage")
    return storage.as_strided(size, stride, offset).clone()


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _dtype(code: Any, *_: Any) -> Type:
    return Type(str(code).lstrip("<>|="))


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, Type) or not isinstance(data, bytes):
        raise ValueError("a number of numpy in an unknown form")
    return kind.numbers(data)[0]


def _array(*_: Any) -> Array:
    return Array()


def _set(items: Sequence[Any] = ()) -> frozenset[Any]:
    return frozenset(items)


NAMES: dict[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("dnnlib.util", "EasyDict"): Attributes,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): _set,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _array,
    **{
        (module, name): stand_in
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, stand_in in (("scalar", _scalar), ("_reconstruct", _array))
    },
}


class _Reader(pickle.Unpickler):
    """Knows `NAMES` and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; only those of `NAMES`."""
        found = NAMES.get((module, name))
        if found is None:
            raise _RefusedError(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse objects that the file keeps elsewhere."""
        raise _RefusedError("an object outside of the file")


class _RefusedError(Exception):
    """A name that is not in `NAMES`."""


def read_official(path: str | Path) -> Stored:
    """The averaged generator (`G_ema`) of an official pickle, as plain values.

    Raises:
        ModelError: the file is missing, damaged, names anything but the few functions that store tensors and plain
            values, or holds no averaged generator.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"generator {path}: no such file")
    try:
        with path.open("rb") as file:
            content = _Reader(file).load()
    except _RefusedError as error:
        raise ModelError(
            f"generator {path}: it asks for {ascii(str(error))[1:-1][:80]}, which no StyleGAN2 or StyleGAN3 file of "
            "PyTorch needs; nothing was run; get the file from where it was first published"
        ) from None
    except Exception as error:  # damaged pickles raise many kinds
        reason = ascii(str(error).partition("\n")[0])[1:-1][:120] or type(error).__name__
        raise ModelError(f"generator {path}: not a whole pickle of a StyleGAN ({reason}); fetch it again") from None
    generator = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(generator, Stored):
        raise ModelError(
            f"generator {path}: holds no G_ema; allowed: the pickles of stylegan2-ada-pytorch or stylegan3"
        )
    return generator
