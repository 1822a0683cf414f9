"""Random changes of images before the critic, differentiable (DiffAugment: Zhao et al. 2020, arXiv 2006.10738).

Each image has its own numbers, drawn from its own seed, so that they do not depend on the batch. Ranges are the
paper's: brightness +-0.5, saturation 0 to 2, contrast 0.5 to 1.5, shifts up to an eighth, a hole of half the side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from cemiface.gandiff.gan.config import Augmentation

SHIFT, HOLE = 1 / 8, 1 / 2  # of the side
NUMBERS = 10  # drawn per image, whatever kinds of changes are on


def draw_changes(seeds: Sequence[int]) -> Tensor:
    """Uniform numbers (N, NUMBERS) in [0, 1), a row per seed."""
    return torch.stack([torch.rand(NUMBERS, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def augment(images: Tensor, drawn: Tensor, *, kinds: Collection[Augmentation], probability: float) -> Tensor:
    """Images (N, 3, S, S) changed as the rows of `drawn` (`draw_changes`) say."""
    for number, kind in enumerate(CHANGES):
        if kind in kinds:
            chosen = drawn[:, number] < probability
            change = CHANGES[kind]
            images = change(images, drawn[:, 3:], chosen)
    return images


def _color(x: Tensor, drawn: Tensor, chosen: Tensor) -> Tensor:
    """Brightness, then saturation around the gray of each pixel, then contrast around the mean of each image."""
    on = chosen.to(x.dtype)[:, None, None, None]
    brightness, saturation, contrast = drawn[:, :3].to(x.dtype)[..., None, None, None].unbind(1)
    x = x + on * (brightness - 0.5)
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * (1 + on * (2 * saturation - 1))
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + on * (contrast - 0.5))


def _translation(x: Tensor, drawn: Tensor, chosen: Tensor) -> Tensor:
    """Shift by whole pixels; zeros come in."""
    side = x.shape[-1]
    most = round(side * SHIFT)
    shift = ((drawn[:, 3:5] * (2 * most + 1)).floor().long() - most) * chosen[:, None]
    # Products with shifted unit matrices: the backward pass is a product as well, without atomic additions.
    place = torch.arange(side, device=x.device)
    down, right = (
        (place[:, None] == place + shift[:, axis, None, None]).to(x.dtype) for axis in (0, 1)
    )  # (N, S, S): row i takes row i - shift
    return down[:, None] @ x @ right[:, None].transpose(-1, -2)


def _cutout(x: Tensor, drawn: Tensor, chosen: Tensor) -> Tensor:
    """A square hole of zeros, whose center may lie anywhere."""
    side = x.shape[-1]
    place = torch.arange(side, device=x.device)
    center = (drawn[:, 5:7] * side).floor()
    near = (place - center[..., None]).abs() < side * HOLE / 2  # (N, 2, S)
    hole = near[:, 0, :, None] & near[:, 1, None, :] & chosen[:, None, None]
    return x.masked_fill(hole[:, None], 0.0)


CHANGES: dict[Augmentation, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
