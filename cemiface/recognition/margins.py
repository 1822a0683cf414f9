"""Margins of the softmax loss: each lowers the cosine to the true class.

CosFace (Wang et al. 2018, arXiv 1801.09414), ArcFace (Deng et al. 2019, arXiv 1801.07698), AdaFace (Kim et al. 2022,
arXiv 2204.00964).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cemiface.recognition.config import MarginConfig

SHORTEST, LONGEST = 1e-3, 100.0  # AdaFace clips the norms of embeddings to this range
EPSILON = 1e-3


def build_margin(config: MarginConfig) -> nn.Module:
    """A module that applies the margin to cosines to the true class (N,), given the norms of the embeddings (N,)."""
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
    """cos(angle + margin); above angle pi - margin, where that would rise again, cos(angle) minus a constant."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, cosine: Tensor, norm: Tensor) -> Tensor:
        shifted = cosine * math.cos(self.margin) - _sine(cosine) * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), shifted, cosine - self.margin * math.sin(self.margin))


class AdaFace(nn.Module):
    """A margin that depends on the norm of the embedding, a measure of image quality (AdaFace, sections 3.3 and 3.4).

    With z the norm, standardized by its running moments, times `concentration` and clipped to [-1, 1]:
    cos(angle - margin z) - (margin + margin z). Hard images of high quality thus get large gradients, those of low
    quality small ones. The moments are buffers; only training updates them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: MarginConfig) -> None:
        super().__init__()
        self.margin, self.concentration, self.momentum = config.margin, config.concentration, config.norm_momentum
        # The published code's initial moments; their effect is gone after some hundred batches.
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
    """The sine of the angle; clamped above 0, where the gradient of the root is infinite."""
    return (1 - cosine.square()).clamp(min=1e-12).sqrt()
