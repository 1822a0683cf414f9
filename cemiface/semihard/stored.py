"""What the file of a denoiser says about it, read without torch and without its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from cemiface.diffusion.config import DiffusionConfig
from cemiface.errors import ModelError
from cemiface.semihard.config import DenoiserConfig


@dataclass(frozen=True, kw_only=True)
class StoredDenoiser:
    """The shape and the schedule of a stored denoiser, and the sha256 of its E_id."""

    config: DenoiserConfig
    diffusion: DiffusionConfig
    embedder: str


def stored_denoiser(path: str | Path) -> StoredDenoiser:
    """What the metadata of a weights file say.

    Raises:
        ModelError: it is not a whole safetensors file, or not one of a denoiser.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights {path}: not a whole safetensors file ({error}); fetch it again") from error
    return from_metadata(metadata, path=path)


def from_metadata(metadata: Mapping[str, str], *, path: str | Path) -> StoredDenoiser:
    """As `stored_denoiser`, from metadata that were read already; `path` is for messages."""
    try:
        return StoredDenoiser(
            config=DenoiserConfig.model_validate_json(metadata["config"]),
            diffusion=DiffusionConfig.model_validate_json(metadata["diffusion"]),
            embedder=metadata["embedder"],
        )
    except (KeyError, ValidationError) as error:
        raise ModelError(f"weights {path}: not a denoiser; give the file that train-diffusion wrote") from error


def refuse_other(
    stored: StoredDenoiser,
    config: DenoiserConfig,
    *,
    diffusion: DiffusionConfig,
    embedder: str | None,
    path: str | Path,
) -> None:
    """Refuse a stored denoiser as the start of one of `config`. The image size may differ: no weight depends on it.

    Args:
        embedder: sha256 of the E_id of the training; None accepts any.

    Raises:
        ModelError: it has another shape, schedule or E_id.
    """
    theirs = {**dict(stored.config), **dict(stored.diffusion), "E_id of sha256": stored.embedder}
    ours = {**dict(config), **dict(diffusion), "E_id of sha256": embedder or stored.embedder}
    other = next((field for field in ours if field != "image_size" and theirs[field] != ours[field]), None)
    if other:
        raise ModelError(
            f"weights {path}: trained with {other} {theirs[other]}, here it is {ours[other]}; give both the same"
        )
