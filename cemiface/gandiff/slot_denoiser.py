"""The embedded base: the suite's U-Net conditioned on slots and on a vector of the identity, and its weights file."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.unet import Condition, UNet
from cemiface.errors import ModelError
from cemiface.gandiff.slots import SlotDenoiserConfig, check_initial_base
from cemiface.weights import built, copy_weights, read_weights, weights_bytes


class SlotCondition(Condition):
    """A sequence of learned vectors: the value of each slot, then the identity.

    The base knows one identity, "anybody". Personalization gives a person a vector of their own in its place, as
    DreamBooth (Ruiz et al. 2023, arXiv 2208.12242) gives a rare word; it starts at anybody's.
    """

    def __init__(self, config: SlotDenoiserConfig) -> None:
        super().__init__(width=config.slot_width)
        sizes = [len(slot.bins) + 1 for slot in config.slots]
        self.vectors = nn.Parameter(torch.randn(sum(sizes), config.slot_width))
        self.anybody = nn.Parameter(torch.randn(config.slot_width))
        firsts = torch.tensor([sum(sizes[:number]) for number in range(len(sizes))])
        self.register_buffer("firsts", firsts, persistent=False)
        self.firsts: Tensor
        self.slots = config.slots

    def forward(self, slots: Tensor, identity: Tensor | None = None) -> Tensor:
        """Sequences (N, L + 1, width) of slots (N, L) long and identity (N, width); None is anybody.

        A slot holds the position of its value, as of `Slot.position`.
        """
        stated = self.vectors[slots + self.firsts]
        if identity is None:
            identity = self.anybody.expand(len(slots), -1)
        return torch.cat([stated, identity[:, None].to(stated.dtype)], dim=1)

    def nothing_stated(self, count: int) -> Tensor:
        """(count, L) long: the slots of faces of which nothing is asked."""
        row = [slot.not_stated for slot in self.slots]
        return torch.tensor(row, device=self.vectors.device).expand(count, -1)


class SlotDenoiser(UNet):
    """Predicts the noise or velocity in x_t, given slots.

    Called as `denoiser(x, t, slots, identity)`: x and t as in `UNet`, the rest as in `SlotCondition`.
    """

    config: SlotDenoiserConfig
    condition: SlotCondition

    def __init__(self, config: SlotDenoiserConfig) -> None:
        # The condition is built first: seeded initial weights depend on the order.
        super().__init__(config, condition=SlotCondition(config))


def dropped(slots: Tensor, *, nothing: Tensor, uniform: Tensor, each: float, all_of_them: float) -> Tensor:
    """Slots (N, L) of which some are not stated, for training.

    Dropping every slot by itself lets prompts state any part of them; dropping all together trains the unconditional
    prediction of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).

    Args:
        nothing: (N, L), of `SlotCondition.nothing_stated`.
        uniform: (N, L + 1) random numbers from 0 to below 1; the last column is for all slots together.
        each, all_of_them: probabilities.
    """
    drop = (uniform[:, :-1] < each) | (uniform[:, -1:] < all_of_them)
    return torch.where(drop, nothing, slots)


def base_bytes(denoiser: SlotDenoiser, *, diffusion: DiffusionConfig, lineage: str = "") -> bytes:
    """A safetensors file of a trained base, with its config, slots and noise schedule; lineage as `weights_bytes`."""
    metadata = {"base": denoiser.config.model_dump_json(), "diffusion": diffusion.model_dump_json()}
    return weights_bytes(denoiser, metadata=metadata, lineage=lineage)


def load_base(path: str | Path) -> tuple[SlotDenoiser, DiffusionConfig]:
    """The base of a file that `base_bytes` made, frozen and in eval mode, and the schedule it was trained with.

    Raises ModelError for a file that is missing, text, partly written, or not a base of this suite.
    """
    tensors, config, diffusion = _read_base(path)
    denoiser = built(lambda: SlotDenoiser(config), tensors, path=path)
    return denoiser.eval().requires_grad_(False), diffusion


def load_initial_base(denoiser: SlotDenoiser, path: str | Path, *, diffusion: DiffusionConfig) -> None:
    """Load the weights of an earlier training into a base; the image size may differ, as no weight depends on it.

    Raises ModelError for files that `load_base` refuses, and for a base of another shape, schedule or other slots.
    """
    check_initial_base(path, denoiser.config, diffusion=diffusion)
    tensors, _, _ = _read_base(path)
    copy_weights(denoiser, tensors, path=path)


def _read_base(path: str | Path) -> tuple[dict[str, Tensor], SlotDenoiserConfig, DiffusionConfig]:
    tensors, metadata = read_weights(path)
    try:
        config = SlotDenoiserConfig.model_validate_json(metadata["base"])
        diffusion = DiffusionConfig.model_validate_json(metadata["diffusion"])
    except (KeyError, ValidationError) as error:
        raise ModelError(f"weights {path}: not a base; give the file that train-base wrote") from error
    if len(config.multipliers) * config.blocks > len(tensors):  # each block has several; or it takes forever
        raise ModelError(f"weights {path}: describes more blocks than it has tensors; fetch it again")
    return tensors, config, diffusion
