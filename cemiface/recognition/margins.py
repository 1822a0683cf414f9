"""The margins of the softmax: what the cosine to the true class is lowered to, and by what.

CosFace (Wang et al. 2018, arXiv 1801.09414), ArcFace (Deng et al. 2019, arXiv 1801.07698), AdaFace (Kim et al. 2022,
arXiv 2204.00964).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cemiface.recognition.config import MarginConfig

SHORTEST, LONGEST = 1e-3, 100.0  # norms of embeddings as AdaFace counts them

EPSILON = 1e-3


def build_margin(config: MarginConfig) -> nn.Module:
    """A module of (true cosines (N,), norms of the embeddings (N,)) to lowered cosines (N,)."""
    if config.kind == "adaface":
        return AdaFace(config)
    return CosFace(config.margin) if config.kind == "cosface" else ArcFace(config.margin)


class CosFace(nn.Module):
    """cos(angle) - margin."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, cosine: Tensor, norm: Tensor) -> Tensor:
        return cosine - self.margin


class ArcFace(nn.Module):
    """cos(angle + margin); beyond angle pi - margin, where that would rise again, a line below it."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, cosine: Tensor, norm: Tensor) -> Tensor:
        turned = cosine * math.cos(self.margin) - _sine(cosine) * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), turned, cosine - self.margin * math.sin(self.margin))


class AdaFace(nn.Module):
    """Sections 3.3 and 3.4: long embeddings, the mark of good images, are pushed at where they are hard.

    With z the norm, standardized by running moments of earlier batches, times `concentration`, and clipped to -1..1:
    cos(angle - margin z) - (margin + margin z). The moments move in training only, and are part of its state.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: MarginConfig) -> None:
        super().__init__()
        self.margin, self.concentration, self.momentum = config.margin, config.concentration, config.norm_momentum
        # Where the published training starts them; some hundred batches later it does not matter.
        self.register_buffer("mean", torch.tensor([20.0]))
        self.register_buffer("std", torch.tensor([100.0]))

    def forward(self, cosine: Tensor, norm: Tensor) -> Tensor:
        norm = norm.detach().clamp(SHORTEST, LONGEST)
        if self.training and len(norm) > 1:
            self.mean.lerp_(norm.mean()[None], self.momentum)
            self.std.lerp_(norm.std()[None], self.momentum)
        z = (self.concentration * (norm - self.mean) / (self.std + EPSILON)).clamp(-1, 1)
        angle = torch.atan2(_sine(cosine), cosine) - self.margin * z
        return angle.clamp(EPSILON, math.pi - EPSILON).cos() - (self.margin + self.margin * z)


def _sine(cosine: Tensor) -> Tensor:
    """Not exactly 0, where the root has no gradient."""
    return (1 - cosine.square()).clamp(min=1e-12).sqrt()
