"""The noise schedule (DDPM, Ho et al. 2020): how much image and noise a timestep has, and what a net's output means.

The output is the noise, or the velocity sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0 (Salimans and Ho 2022,
arXiv 2202.00512).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cemiface.diffusion.config import DiffusionConfig


class Schedule:
    """alpha_bar (T,) in float32 on one device: the share of the image's variance that is left at each timestep."""

    def __init__(self, config: DiffusionConfig, *, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.timesteps = config.timesteps
        power = 0.5 if config.schedule == "scaled_linear" else 1.0
        start, end = config.beta_start**power, config.beta_end**power
        beta = torch.linspace(start, end, config.timesteps, dtype=torch.float64) ** (1 / power)
        self.alpha_bar = torch.cumprod(1 - beta, dim=0).to(device, torch.float32)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t of eq. 4, for x0 and noise (N, 3, S, S) and t (N,) long."""
        signal, spread = self._coefficients(t)
        return signal * x0 + spread * noise

    def target(self, x_t: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The output that the net should give for x_t (N, 3, S, S) with this noise in it."""
        if self.config.prediction == "noise":
            return noise
        signal, spread = self._coefficients(t)
        return (noise - spread * x_t) / signal

    def predict_x0(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The image in x_t according to the net's output (N, 3, S, S), not clipped; eq. 10 if the output is noise."""
        signal, spread = self._coefficients(t)
        if self.config.prediction == "noise":
            return (x_t - spread * output) / signal
        return signal * x_t - spread * output

    def predict_noise(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The noise in x_t according to the net's output."""
        if self.config.prediction == "noise":
            return output
        signal, spread = self._coefficients(t)
        return spread * x_t + signal * output

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.alpha_bar[t][:, None, None, None]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
