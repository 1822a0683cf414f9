"""CemiFace's denoiser: the U-Net with the condition on identity and m, and its weights file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.unet import UNet
from cemiface.errors import ModelError
from cemiface.semihard.condition import IdentityCondition
from cemiface.semihard.config import DenoiserConfig
from cemiface.semihard.stored import StoredDenoiser, from_metadata, refuse_other
from cemiface.weights import built, copy_weights, read_weights, weights_bytes


class Denoiser(UNet):
    """Predicts the noise or velocity in x_t, given an identity embedding and the requested similarity m to it.

    Called as `denoiser(x, t, identity, m, null)`: x and t as in `UNet`, the rest as in `IdentityCondition`.
    """

    config: DenoiserConfig

    def __init__(self, config: DenoiserConfig) -> None:
        # The condition is built first: seeded initial weights depend on the order.
        super().__init__(config, condition=IdentityCondition(config))


def denoiser_bytes(denoiser: Denoiser, *, diffusion: DiffusionConfig, embedder: str, lineage: str = "") -> bytes:
    """A safetensors file of a trained denoiser, with its config and the noise schedule it was trained under.

    Args:
        embedder: sha256 of the weights file of E_id, the only net whose embeddings the denoiser understands.
        lineage: see `weights_bytes`.
    """
    metadata = {"config": denoiser.config.model_dump_json(), "diffusion": diffusion.model_dump_json()}
    return weights_bytes(denoiser, metadata={**metadata, "embedder": embedder}, lineage=lineage)


def load_denoiser(path: str | Path) -> tuple[Denoiser, DiffusionConfig]:
    """The denoiser of a file that `denoiser_bytes` made, frozen and in eval mode, and the schedule it was trained with.

    Raises ModelError for a file that is missing, text, partly written, or not a denoiser of this suite.
    """
    tensors, stored = _read_denoiser(path)
    denoiser = built(lambda: Denoiser(stored.config), tensors, path=path)
    return denoiser.eval().requires_grad_(False), stored.diffusion


def load_initial_weights(
    denoiser: Denoiser, path: str | Path, *, diffusion: DiffusionConfig, embedder: str | None
) -> None:
    """Load the weights of an earlier training into a denoiser; `embedder` None accepts those of any E_id.

    The image size may differ, as no weight depends on it: a training can continue at a higher resolution.

    Raises ModelError for files that `load_denoiser` refuses, and for a net of another shape, schedule or E_id.
    """
    tensors, stored = _read_denoiser(path)
    refuse_other(stored, denoiser.config, diffusion=diffusion, embedder=embedder, path=path)
    copy_weights(denoiser, tensors, path=path)


def _read_denoiser(path: str | Path) -> tuple[dict[str, Tensor], StoredDenoiser]:
    tensors, metadata = read_weights(path)
    stored = from_metadata(metadata, path=path)
    config = stored.config
    if len(config.multipliers) * config.blocks > len(tensors):  # each block has several; or it takes forever
        raise ModelError(f"weights {path}: describes more blocks than it has tensors; fetch it again")
    return tensors, stored
