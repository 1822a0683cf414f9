"""The random numbers of a GAN's training, and the norm of its gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cemiface.gandiff.gan.augment import augment, draw_changes
from cemiface.gandiff.gan.generator import latent
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.train_gan.plan import TrainGan


class Draws:
    """Latents and augmentations, each from (seed, purpose, position) alone, so that ranks and pieces change nothing."""

    def __init__(self, config: TrainGan, *, seed: int, device: torch.device) -> None:
        self.config, self.seed, self.device = config, seed, device

    def latents(self, positions: range, *, purpose: str) -> Tensor:
        """z (N, z_width) of these positions."""
        seeds = [derive(self.seed, f"gan latent, {purpose}", position) for position in positions]
        return torch.stack([latent(seed, self.config.gan.z_width) for seed in seeds]).to(self.device)

    def augmented(self, images: Tensor, positions: range, *, purpose: str) -> Tensor:
        """The images (N, 3, S, S) as the critic is to see them."""
        loss = self.config.loss
        if not loss.augment:
            return images
        drawn = draw_changes([derive(self.seed, f"gan augmentation, {purpose}", position) for position in positions])
        return augment(images, drawn.to(self.device), kinds=loss.augment, probability=loss.augment_probability)


def gradient_norm(net: nn.Module) -> float:
    """The norm of the whole gradient, as it was averaged over the ranks."""
    return float(torch.nn.utils.get_total_norm([one.grad for one in net.parameters() if one.grad is not None]))
