"""The training loss of CemiFace (eq. 9-14) and the draw of m (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cemiface.diffusion.schedule import Schedule
from cemiface.semihard.config import LossConfig, SimilarityGrid


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Scalars of one batch; `total` carries the gradient, the others are detached, for the log."""

    total: Tensor
    mse: Tensor
    reconstruction: Tensor  # (1 - t/T) (1 - s)^2
    similarity: Tensor  # (t/T) (m - s)^2
    cosine: Tensor  # s itself, the mean over all samples

    def terms(self) -> Tensor:
        """All of them (5,), in the order above, for sums over pieces and ranks."""
        return torch.stack([self.total.detach(), self.mse, self.reconstruction, self.similarity, self.cosine])


def cemiface_loss(
    predicted: Tensor,
    *,
    noise: Tensor,
    x_t: Tensor,
    t: Tensor,
    m: Tensor,
    identity: Tensor,
    embedder: Callable[[Tensor], Tensor],
    schedule: Schedule,
    config: LossConfig,
    weight_mask: Tensor | None = None,
) -> Losses:
    """Eq. 14: MSE of what is predicted (in the paper, the noise) plus lambda times the weighted similarity matching.

    predicted, the net's output, noise, x_t (N, 3, S, S); t (N,) long; m (N,); identity (N, E) = E_id(x), precomputed.
    `embedder` is the same frozen E_id: the gradient flows through it into the predicted image, never into its weights.
    `weight_mask` (N,) is 0 for samples that take only the MSE (those denoised without condition); the means stay over
    all N samples, so a sample weighs the same whatever else is in its batch.
    """
    predicted, noise, m = predicted.float(), noise.float(), m.float()
    mse = F.mse_loss(predicted, schedule.target(x_t.float(), noise, t))
    x0 = schedule.predict_x0(x_t.float(), predicted, t)
    if config.clip_x0:
        x0 = x0.clamp(-1, 1)
    s = F.cosine_similarity(identity.float(), embedder(x0).float(), dim=1)
    gamma = t.to(s.dtype) / schedule.timesteps
    reconstruction = (1 - gamma) * (1 - s).square()  # eq. 11, 13
    similarity = gamma * (m - s).square()  # eq. 12, 13
    if weight_mask is not None:
        reconstruction, similarity = reconstruction * weight_mask, similarity * weight_mask
    total = mse + config.weight * (reconstruction + similarity).mean()
    return Losses(
        total=total,
        mse=mse.detach(),
        reconstruction=reconstruction.detach().mean(),
        similarity=similarity.detach().mean(),
        cosine=s.detach().mean(),
    )


def draw_m(uniform: Tensor, *, grid: SimilarityGrid) -> Tensor:
    """The m (N,) in float32 that uniform numbers (N,) in [0, 1) pick from the grid, or from the range without one."""
    if grid.interval is None:
        return (grid.low + uniform.double() * (grid.high - grid.low)).float()
    values = torch.tensor(grid.values, dtype=torch.float32, device=uniform.device)
    index = (uniform.double() * len(values)).long().clamp(max=len(values) - 1)
    return values[index]
