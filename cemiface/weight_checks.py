"""Checks on weights files from elsewhere: that loading them takes no more memory than they have, and what they hold."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from cemiface.errors import ModelError

ZIP_MAGIC = b"PK\x03\x04"

LEGACY_PICKLES = 5  # before the storages of torch's format before 1.6: magic, version, system, state, storages

MAX_PICKLE = 2**26  # bytes of the pickle that describes the tensors

MAX_SHARED = 4  # times that the tensors together may be larger than the file, as several may share a storage

DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool}
DTYPES |= {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}

ALLOCATING = ("Tensor", "bytearray")  # ends of the names that allocate as much as the pickle asks for


def refuse_amplifying(path: Path) -> None:
    """Refuse a state dict that would take far more memory than its file, before `torch.load` takes it.

    Raises:
        ModelError: its members are compressed, its pickle has more than `MAX_PICKLE` bytes or makes tensors without a
            storage in the file.
        Exception: of pickletools and zipfile, if it is damaged.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                _check_pickle(file, path=path)
            return
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            packed = [member for member in members if member.compress_type != zipfile.ZIP_STORED]
            if packed or sum(member.file_size for member in members) > path.stat().st_size:
                raise ModelError(f"weights {path}: a compressed archive; allowed: as torch.save writes it")
            for member in members:
                if member.filename.endswith("data.pkl"):
                    if member.file_size > MAX_PICKLE:
                        raise ModelError(f"weights {path}: a pickle of {member.file_size} bytes, allowed: {MAX_PICKLE}")
                    with archive.open(member) as inner:
                        _check_pickle(inner, path=path)  # type: ignore[arg-type]  # its stubs call it IO[bytes]


def check_tensors(tensors: Mapping[str, Tensor], *, path: str | Path) -> None:
    """Check that tensors are plain weights.

    Raises:
        ModelError: one is sparse, quantized, complex, not finite, has no values, or more values than the file has
            bytes; the message has its name.
    """
    size = Path(path).stat().st_size
    left = MAX_SHARED * size
    for name, tensor in tensors.items():
        problem = _problem(tensor, at_most=min(size, left))
        left -= 0 if problem else tensor.numel() * tensor.element_size()
        if problem is not None:
            raise ModelError(f"weights {path}: {ascii(name)[1:-1][:80]} is {problem}; allowed: finite real numbers")


def _problem(tensor: Tensor, *, at_most: int) -> str | None:
    """Why a tensor is no weight, None if it is one."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested:
        return "no plain tensor"
    if tensor.is_meta:
        return "without values (meta)"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantized"
    if tensor.dtype not in DTYPES:
        return "complex" if tensor.is_complex() else f"of type {tensor.dtype}"
    if tensor.numel() * tensor.element_size() > at_most:
        return f"of shape {tuple(tensor.shape)}, more than the file holds"
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor.detach()).all()):
        return "NaN or infinite in places"
    return None


def _check_pickle(file: BinaryIO, *, path: Path) -> None:
    """Read one pickle to its end, without running it."""
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL" and str(argument).endswith(ALLOCATING):
            raise ModelError(f"weights {path}: holds {str(argument)[:60]!r}; allowed: tensors with their storages")
