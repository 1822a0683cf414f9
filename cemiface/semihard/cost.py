"""What CemiFace's denoiser costs, from its config alone and without torch."""

from __future__ import annotations

from cemiface.diffusion.cost import UNetCost, unet_cost
from cemiface.semihard.config import DenoiserConfig


def denoiser_cost(config: DenoiserConfig) -> UNetCost:
    """Cost of the denoiser that `Denoiser` builds: the U-Net and its condition on identity and m."""
    width = config.embedding + config.similarity_width
    unet = unet_cost(config, condition_width=width, condition_tokens=config.condition_tokens)
    similarity = 2 * config.similarity_width  # weight and bias of F1 in eq. 6
    return UNetCost(
        parameters=unet.parameters,
        adapter_parameters=unet.adapter_parameters + similarity + width,  # the null has one parameter per entry
        macs=unet.macs + config.similarity_width,
    )
