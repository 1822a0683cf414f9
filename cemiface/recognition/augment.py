"""Augmentation of a batch on its device; each image has its own row of uniform numbers.

The caller derives the numbers from (seed, position), so the augmentation does not depend on batches or ranks.
The loader does the flips. Color is one 3x3 matrix and offset per image, which takes a fifth of the time of HSV.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cemiface.recognition.config import AugmentConfig
from cemiface.values import Interval

CROP_DRAWS, COLOR_DRAWS, ERASE_DRAWS = 4, 5, 5
DRAWS = CROP_DRAWS + COLOR_DRAWS + ERASE_DRAWS  # uniform numbers per image
ERASE_ASPECT = (0.3, 1 / 0.3)  # height over width, the usual range (Zhong et al. 2017, arXiv 1708.04896)
LUMA = (0.299, 0.587, 0.114)

# RGB to YIQ (NTSC): a change of hue rotates the I-Q plane and keeps the luma.
YIQ = (LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def augment(x: Tensor, uniform: Tensor, *, config: AugmentConfig) -> Tensor:
    """Images (N, 3, S, S) in [-1, 1], cropped, recolored and erased; `uniform` (N, DRAWS) in [0, 1)."""
    assert uniform.shape == (len(x), DRAWS)
    crop_draws, color_draws, erase_draws = uniform.float().split([CROP_DRAWS, COLOR_DRAWS, ERASE_DRAWS], dim=1)
    x = crop(x, crop_draws, config=config)
    x = recolor(x, color_draws, config=config)
    return erase_(x, erase_draws, config=config)


def crop(x: Tensor, uniform: Tensor, *, config: AugmentConfig) -> Tensor:
    """Crop a square of crop_area of the image and enlarge it to the full size. Draws: apply or not, area, x, y."""
    chance, area, right, down = uniform.unbind(1)
    side = _between(area, config.crop_area).sqrt()
    side = torch.where(chance < config.crop_probability, side, torch.ones_like(side))
    room = 1 - side  # largest shift of the center, in coordinates of -1 to 1
    size = x.shape[-1]
    pixels = (torch.arange(size, device=x.device) * 2 + 1) / size - 1
    columns, rows = (side[:, None] * pixels + (room * (2 * shift - 1))[:, None] for shift in (right, down))
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), -1)
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def recolor(x: Tensor, uniform: Tensor, *, config: AugmentConfig) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, and clip once. Draws: apply or not, these four.

    Brightness b scales by a factor of 1 - b to 1 + b; contrast scales the distance to the image's mean gray, and
    saturation that to the pixel's gray, in the same way; hue rotates by up to that fraction of the circle.
    """
    chance, brightness, contrast, saturation, hue = uniform.unbind(1)
    b = 1 + config.brightness * (2 * brightness - 1)
    c = 1 + config.contrast * (2 * contrast - 1)
    s = 1 + config.saturation * (2 * saturation - 1)
    luma = torch.tensor(LUMA, device=x.device)
    eye = torch.eye(3, device=x.device)
    gray = luma.expand(3, 3)  # maps a color to its gray
    saturate = s[:, None, None] * eye + (1 - s)[:, None, None] * gray
    turn = _hue_matrix(2 * math.pi * config.hue * (2 * hue - 1))
    chosen = chance < config.color_probability
    matrix = torch.where(chosen[:, None, None], turn @ saturate * (b * c)[:, None, None], eye)
    # In [0, 1] contrast adds (1 - c) b times the mean gray, and saturation and hue keep gray. In [-1, 1] the matrix
    # maps 1 to b c, which gives this offset.
    mean_gray = (x.float().mean((2, 3)) @ luma + 1) / 2
    offset = torch.where(chosen, b * c + 2 * (1 - c) * b * mean_gray - 1, torch.zeros_like(b))
    colored = torch.baddbmm(offset[:, None, None].to(x.dtype), matrix.to(x.dtype), x.flatten(2))
    return colored.clamp_(-1, 1).view_as(x)


def erase_(x: Tensor, uniform: Tensor, *, config: AugmentConfig) -> Tensor:
    """Set a rectangle of erase_area to mid-gray (0), in place. Draws: apply or not, area, aspect, x, y."""
    chance, area, aspect, right, down = uniform.unbind(1)
    size = x.shape[-1]
    ratio = _between(aspect, (math.log(ERASE_ASPECT[0]), math.log(ERASE_ASPECT[1]))).exp()
    pixels = _between(area, config.erase_area) * size * size
    height, width = (pixels * ratio).sqrt().clamp(max=size), (pixels / ratio).sqrt().clamp(max=size)
    rows = _inside(down * (size - height), height, size=size)
    columns = _inside(right * (size - width), width, size=size)
    chosen = (chance < config.erase_probability)[:, None, None]
    mask = rows[:, :, None] & columns[:, None, :] & chosen
    return x.masked_fill_(mask[:, None], 0)


def _hue_matrix(angle: Tensor) -> Tensor:
    """RGB matrices (N, 3, 3) that rotate the hue by angles (N,) in radians."""
    yiq = torch.tensor(YIQ, device=angle.device)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [one, zero, zero, zero, angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos()]
    rgb: Tensor = torch.linalg.inv(yiq) @ torch.stack(rows, 1).view(-1, 3, 3) @ yiq
    return rgb


def _between(uniform: Tensor, interval: Interval) -> Tensor:
    low, high = interval
    return low + uniform * (high - low)


def _inside(start: Tensor, length: Tensor, *, size: int) -> Tensor:
    """(N, size) bool: the pixels whose center lies in each [start, start + length)."""
    center = torch.arange(size, device=start.device) + 0.5
    return (center >= start[:, None]) & (center < (start + length)[:, None])
