"""The header of a safetensors file: what it holds, without reading it. It imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from cemiface.errors import ModelError

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
LARGEST = 100 * 2**20  # bytes, as in the library


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file holds.

    Attributes:
        shapes: of the tensors, by name.
        numbers: in all tensors together.
    """

    shapes: dict[str, tuple[int, ...]]
    numbers: int


def read_header(path: Path) -> Header:
    """The header of a file. Raises ModelError in one line for a file that is cut, damaged or no safetensors."""
    again = ModelError(f"base {path}: not a whole safetensors file; fetch it again")
    length = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if length < 8 or not 2 <= size <= min(LARGEST, length - 8):
            raise again
        data = file.read(size)
    try:
        entries = json.loads(data)
        entries.pop("__metadata__", None)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        spans = sorted(tuple(map(int, entry["data_offsets"])) for entry in entries.values())
        other = next((entry["dtype"] for entry in entries.values() if entry["dtype"] not in BYTES), None)
        if other is not None:
            raise ModelError(f"base {path}: holds numbers of type {str(other)[:20]!r}; allowed: {', '.join(BYTES)}")
        sizes = [math.prod(shapes[name]) * BYTES[entry["dtype"]] for name, entry in entries.items()]
        held = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in entries.items()}
    except ModelError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise again from error
    ends = [0, *(end for _, end in spans)]
    follow = [start for start, _ in spans] == ends[:-1] and ends[-1] == length - 8 - size
    if not follow or sizes != list(held.values()):
        raise again
    return Header(shapes=shapes, numbers=sum(math.prod(shape) for shape in shapes.values()))
