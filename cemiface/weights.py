"""Weights as files: safetensors, or a state dict that `torch.load` reads without running code."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cemiface.errors import ModelError
from cemiface.weight_checks import check_tensors, refuse_amplifying
from cemiface.weights_head import SUFFIXES, refuse_text

# Keys under which training scripts put the weights.
WRAPPERS = ("state_dict", "model", "state_dict_backbone", "model_state_dict", "backbone", "net")

# Of the names in wrappers around a net: data parallel, Lightning's, compiled, averaged; one may be inside another.
PREFIXES = ("module.", "model.", "net.", "network.", "backbone.", "_orig_mod.", "ema.", "ema_model.")

MAX_PREFIXES = 8  # one inside the other

SHOWN = 5

SHOWN_OF_ERROR = 160  # characters

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a weights file by name, and its metadata (empty unless the file is safetensors).

    Raises ModelError for a missing file, a Git LFS pointer or other text, an unknown suffix, a file that would need
    code to load, one that holds anything but tensors, or tensors that are no weights: sparse, quantized, complex, not
    finite, without values, or with more values than the file has.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"weights {path}: no such file")
    refuse_text(path)
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
        check_tensors(tensors, path=path)
        return tensors, metadata
    if path.suffix in SUFFIXES:
        tensors = _read_state_dict(path)
        check_tensors(tensors, path=path)
        return tensors, {}
    raise ModelError(f"weights {path}: got suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")


def weights_bytes(module: nn.Module, *, metadata: Mapping[str, str], lineage: str = "") -> bytes:
    """A safetensors file of the module's state: the same bytes for the same state and metadata.

    Args:
        lineage: the data sets that the net was trained on, as JSON; left out if it is empty.
    """
    if lineage:
        metadata = {**metadata, "lineage": lineage}
    return tensors_bytes(module.state_dict(), metadata=metadata)


def tensors_bytes(tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file: the same bytes for the same tensors and metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file = save(tensors, metadata=dict(metadata))
    size = int.from_bytes(file[:8], "little")
    # The library writes the metadata in the order of a hash table that differs by process.
    header = json.dumps(json.loads(file[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[8 + size :]


def copy_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, path: str | Path) -> None:
    """Copy the tensors into the module; raises ModelError naming what is missing, unexpected or of another shape.

    A module on the device "meta" is only compared.
    """
    wanted = module.state_dict()
    tensors = _fitting(tensors, wanted)
    missing, unexpected = _other_names(tensors, wanted)
    if missing or unexpected:
        raise ModelError(
            f"weights {path}: another architecture; missing {_some(missing)}; unexpected {_some(unexpected)}"
        )
    shapes = [
        f"{name} {tuple(tensor.shape)}, allowed {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != wanted[name].shape
    ]
    if shapes:
        raise ModelError(f"weights {path}: other shapes: {_some(shapes)}")
    if not any(tensor.is_meta for tensor in wanted.values()):
        module.load_state_dict({**wanted, **tensors})


def share_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether most values of two nets lie in tensors that are equal up to half precision, whatever their names."""
    hashed = [[(_rounded_hash(tensor), tensor.numel()) for tensor in tensors.values()] for tensors in (one, other)]
    known = {found for found, _ in hashed[1]}
    return 2 * sum(size for found, size in hashed[0] if found in known) > sum(size for _, size in hashed[0])


def _rounded_hash(tensor: Tensor) -> bytes:
    return hashlib.sha256(tensor.detach().cpu().half().contiguous().numpy().tobytes()).digest()


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors without a prefix that a wrapper put before all of their names; None if there is none.

    The mark of a compiled part is taken off wherever it is.
    """
    if any("._orig_mod." in name for name in tensors):
        return {name.replace("._orig_mod.", "."): tensor for name, tensor in tensors.items()}
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return None


def _fitting(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors without as many prefixes as fit best; all of them if they fit as they are."""
    tried: list[Mapping[str, Tensor]] = [tensors]
    while len(tried) <= MAX_PREFIXES and any(_other_names(tried[-1], wanted)):
        stripped = without_prefix(tried[-1])
        if stripped is None:
            break
        tried.append(stripped)
    return min(tried, key=lambda named: sum(map(len, _other_names(named, wanted))))


def _other_names(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Names that are missing, and names that are unexpected."""
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    return missing, [name for name in tensors if name not in wanted]


def built(make: Callable[[], ModuleT], tensors: Mapping[str, Tensor], *, path: str | Path) -> ModuleT:
    """The module of a file's own config with the file's tensors.

    It is first built without memory, as a config may describe a net of any size.

    Raises:
        ModelError: as `copy_weights`; or no net can be built by that config.
    """
    try:
        with torch.device("meta"):
            outline = make()
    except ModelError:
        raise
    except Exception as error:  # torch raises many kinds for sizes that cannot be
        raise ModelError(f"weights {path}: no net can be built as it describes ({_reason(error)})") from error
    copy_weights(outline, tensors, path=path)
    module = make()
    copy_weights(module, tensors, path=path)
    return module


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with whole_safetensors(path), safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


@contextmanager
def whole_safetensors(path: Path, *, kind: str = "weights", remedy: str = "fetch it again") -> Iterator[None]:
    """Within the block a safetensors file is read; raises ModelError in one line if it is cut or damaged."""
    try:
        yield
    except BaseException as error:
        # A parser in Rust reports its own mistakes as a PanicException, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{kind} {path}: not a whole safetensors file ({_reason(error)}); {remedy}") from error


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        refuse_amplifying(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"weights {path}: torch.load(weights_only=True) refuses it as more than tensors; if you trust the file, "
            "load it once with its own program and store model.state_dict() as safetensors; if damaged, fetch it again"
        ) from error
    except Exception as error:  # torch's unpickler raises many kinds on damaged files
        raise ModelError(f"weights {path}: not a whole weights file ({_reason(error)}); fetch it again") from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        held = _some([str(key)[:40] for key in state]) if isinstance(state, dict) else type(state).__name__
        raise ModelError(f"weights {path}: got {held}; allowed: a state dict of tensors, or one under 'state_dict'")
    return dict(state)


def _reason(error: BaseException) -> str:
    """The first line of an error, or its kind."""
    text = str(error).strip().partition("\n")[0][:SHOWN_OF_ERROR]
    return ascii(text)[1:-1] if text else type(error).__name__


def _some(names: list[str]) -> str:
    """The first names and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "nothing") + more
