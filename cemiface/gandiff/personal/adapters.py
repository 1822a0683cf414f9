"""Packs of adapters: the tensors of some identities in one safetensors file, read one identity at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from cemiface.errors import ModelError
from cemiface.weights import tensors_bytes, whole_safetensors


def pack_bytes(adapters: Mapping[str, Mapping[str, Tensor]], *, metadata: Mapping[str, str]) -> bytes:
    """A pack: the tensors of each identity by its name; in the file they are called `name/tensor`."""
    tensors = {f"{who}/{name}": tensor for who, adapter in adapters.items() for name, tensor in adapter.items()}
    return tensors_bytes(tensors, metadata=metadata)


class AdapterPack:
    """A pack on disk. Its header is the index; the tensors of an identity are read when they are asked for.

    Raises:
        ModelError: the file is missing, cut or damaged, or is no pack.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ModelError(f"adapters {path}: no such file; run the stage personalize")
        with whole_safetensors(path, kind="adapters", remedy=self._again()), _opened(path) as file:
            self.metadata: dict[str, str] = dict(file.metadata() or {})
            names = list(file.keys())
        self._index: dict[str, list[str]] = {}
        for name in sorted(names):
            who, separator, tensor = name.partition("/")
            if not separator or not tensor:
                raise ModelError(f"adapters {path}: holds {name[:60]!r}, allowed: IDENTITY/TENSOR; {self._again()}")
            self._index.setdefault(who, []).append(tensor)

    @property
    def names(self) -> tuple[str, ...]:
        """The identities in the pack, sorted."""
        return tuple(self._index)

    def read(self, name: str) -> dict[str, Tensor]:
        """The tensors of one identity in float32.

        Raises:
            ModelError: the pack does not have it, or its tensors are not finite.
        """
        found = {tensor: values.float() for tensor, values in self.stored(name).items()}
        bad = next((tensor for tensor, values in found.items() if not bool(values.isfinite().all())), None)
        if bad is not None:
            raise ModelError(f"adapters {self.path}: {name}/{bad} is not finite; {self._again()}")
        return found

    def stored(self, name: str) -> dict[str, Tensor]:
        """As `read`, in the precision of the file and without a look at the values."""
        if name not in self._index:
            raise ModelError(f"adapters {self.path}: identity {name} is not in it; {self._again()}")
        with whole_safetensors(self.path, kind="adapters", remedy=self._again()), _opened(self.path) as file:
            return {tensor: file.get_tensor(f"{name}/{tensor}") for tensor in self._index[name]}

    def _again(self) -> str:
        return "delete it and run `personalize` again, or copy it again"


def _opened(path: Path) -> Any:
    return safe_open(path, framework="pt", device="cpu")
