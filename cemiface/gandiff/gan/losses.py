"""The losses of generator and critic (R3GAN: Huang et al. 2024, arXiv 2501.05441, equations 2 and 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.gandiff.gan.config import GanLossConfig


def critic_losses(
    critic: nn.Module, *, real: Tensor, fake: Tensor, config: GanLossConfig, penalized: bool
) -> dict[str, Tensor]:
    """The critic's losses on as many real images as generated ones (N, 3, S, S), as it is to see them.

    `critic_loss` is what is minimized: `pairing` and, where `penalized`, `r1` and `r2`, the penalties at real and at
    generated images, which count `penalty_every` times as they are computed that much more rarely. `real_score` and
    `fake_score` are means. `right_pairs` is the fraction of pairs in which the real image scores higher; near 1, the
    critic has won.
    """
    real, fake = real.detach().requires_grad_(penalized), fake.detach().requires_grad_(penalized)
    real_scores, fake_scores = critic(real), critic(fake)
    losses = {
        "pairing": pairing_loss(real_scores, than=fake_scores),
        "real_score": real_scores.mean(),
        "fake_score": fake_scores.mean(),
        "right_pairs": (real_scores > fake_scores).float().mean(),
    }
    total = losses["pairing"]
    if penalized:
        losses["r1"] = gradient_penalty(real_scores, images=real).mean()
        losses["r2"] = gradient_penalty(fake_scores, images=fake).mean()
        total = total + config.penalty_every * config.gamma / 2 * (losses["r1"] + losses["r2"])
    return {"critic_loss": total, **losses}


def generator_loss(critic: nn.Module, *, real: Tensor, fake: Tensor) -> Tensor:
    """The generator's loss: each generated image should score higher than a real one."""
    with torch.no_grad():
        real_scores = critic(real)
    return pairing_loss(critic(fake), than=real_scores)


def pairing_loss(better: Tensor, *, than: Tensor) -> Tensor:
    """softplus(than - better), the mean over pairs of scores (N,): small where `better` scores higher than its partner.

    Each generated image is judged against a real one, which keeps the generator from covering some of the faces only.
    """
    return F.softplus(than - better).mean()


def gradient_penalty(scores: Tensor, *, images: Tensor) -> Tensor:
    """The squared norm of the gradient of each score (N,) with respect to its image: R1 at real, R2 at generated ones.

    The result (N,) can be differentiated, by the weights of the critic that gave `scores`.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))
