"""The diffusion process: how much noise a timestep has, and what of the image is left (DDPM, Ho et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from cemiface.config import DiffusionConfig


class Schedule:
    """alpha_bar (T,) in float32: the share of the image's variance left at each timestep, on one device."""

    def __init__(self, config: DiffusionConfig, *, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.timesteps = config.timesteps
        beta = torch.linspace(config.beta_start, config.beta_end, config.timesteps, dtype=torch.float64)
        self.alpha_bar = torch.cumprod(1 - beta, dim=0).to(device, torch.float32)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t of eq. 4, for x0 and noise (N, 3, S, S) and t (N,) long."""
        signal, spread = self._coefficients(t)
        return signal * x0 + spread * noise

    def predict_x0(self, x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The image that eq. 10 finds under x_t when its noise is eps; float32, not clipped."""
        signal, spread = self._coefficients(t)
        return (x_t - spread * eps) / signal

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alpha_bar[t][:, None, None, None]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
