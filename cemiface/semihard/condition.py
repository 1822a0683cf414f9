"""CemiFace's condition: the identity of an inquiry face and the requested similarity m to it (eq. 5-6)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.diffusion.unet import Condition
from cemiface.errors import ModelError
from cemiface.semihard.config import DenoiserConfig


class IdentityCondition(Condition):
    """cat(C_id, C_sim), from which every attention block makes its condition tokens, or the learned null."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(width=config.embedding + config.similarity_width, tokens=config.condition_tokens)
        self.scaled = config.identity_scale == "unit"
        self.embedding = config.embedding
        self.similarity = nn.Linear(1, config.similarity_width)  # F1 in eq. 6
        self.null = nn.Parameter(torch.zeros(self.width))

    def forward(self, identity: Tensor, m: Tensor, null: Tensor | None = None) -> Tensor:
        """Vectors (N, width) of identity (N, embedding), m (N,) in [-1, 1] and null (N,) bool.

        The identity is scaled as the config says. Rows where `null` is true have no condition. Raises ModelError if
        the identity has another width than the net was built for.
        """
        if identity.shape[1] != self.embedding:
            raise ModelError(
                f"denoiser: got identity embeddings of width {identity.shape[1]}; it was built for {self.embedding}. "
                "Use the recognition net it was trained with, or set denoiser.embedding"
            )
        if self.scaled:
            identity = F.normalize(identity, dim=1) * math.sqrt(self.embedding)
        condition = torch.cat([identity, self.similarity(m[:, None])], dim=1)
        if null is None:
            null = torch.zeros_like(m, dtype=torch.bool)
        # Always through `where`, so that the null has a gradient (zero if unused) on every rank of a data-parallel job.
        return torch.where(null[:, None], self.null.to(condition.dtype), condition)
