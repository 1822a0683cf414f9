"""Random numbers of training images, each from (seed, purpose, position) alone: checkpoints hold no state of them."""

from __future__ import annotations

import torch

from jobs.frame.seeds import derive


def image_draws(
    positions: range, *, shape: torch.Size, uniforms: int, purpose: str, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform numbers (N, uniforms) from 0 to below 1 and normal noise (N, *shape) of the images at these positions."""
    generators = [torch.Generator().manual_seed(derive(seed, purpose, position)) for position in positions]
    uniform = torch.stack([torch.rand(uniforms, generator=generator) for generator in generators])
    return uniform, torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def timesteps(uniform: torch.Tensor, *, count: int) -> torch.Tensor:
    """Timesteps 0 to count - 1 of uniform numbers (N,)."""
    return (uniform.double() * count).long()
