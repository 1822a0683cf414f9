"""Margin softmax: CosFace (Wang et al. 2018, arXiv 1801.09414), ArcFace (Deng et al. 2019, arXiv 1801.07698)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.config import MarginConfig


class MarginClassifier(nn.Module):
    """A recognition net with its margin head, as one module for one optimizer: images and labels to logits."""

    def __init__(self, backbone: nn.Module, head: MarginHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(x), labels)
        return logits


class MarginHead(nn.Module):
    """Logits for cross entropy: scaled cosines to one center per class, the true class's lowered by the margin."""

    def __init__(self, classes: int, embedding: int, config: MarginConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(classes, embedding).normal_(std=0.01))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, classes) in float32, whatever autocast says, for embeddings (N, E) and labels (N,) long."""
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
            true = cosine.gather(1, labels[:, None])
            lowered = self._cosface(true) if self.config.kind == "cosface" else self._arcface(true)
            return self.config.scale * cosine.scatter(1, labels[:, None], lowered)

    def _cosface(self, cosine: Tensor) -> Tensor:
        return cosine - self.config.margin

    def _arcface(self, cosine: Tensor) -> Tensor:
        """cos(angle + margin); beyond angle pi - margin, where that would rise again, a line below it."""
        margin = self.config.margin
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()  # not exactly 0, where the root has no gradient
        turned = cosine * math.cos(margin) - sine * math.sin(margin)
        return torch.where(cosine > -math.cos(margin), turned, cosine - margin * math.sin(margin))
