from __future__ import annotations

import math

import pytest
import torch

from cemiface.config import DiffusionConfig
from cemiface.diffusion import Schedule


def test_alpha_bar_is_the_product_of_one_minus_beta():
    schedule = Schedule(DiffusionConfig(timesteps=10, beta_start=0.1, beta_end=0.3))
    product = 1.0
    for step in range(10):
        product *= 1 - (0.1 + 0.2 * step / 9)
        assert schedule.alpha_bar[step].item() == pytest.approx(product, rel=1e-6)


def test_the_papers_schedule_ends_in_noise():
    alpha_bar = Schedule(DiffusionConfig()).alpha_bar
    assert alpha_bar[0].item() == pytest.approx(1 - 1e-4)
    assert alpha_bar[-1].item() == pytest.approx(4.036e-5, rel=1e-3)


def test_noise_is_added_step_by_step(draw):
    """Eq. 4 in one go has the signal and the variance of t + 1 single steps (eq. 3)."""
    config = DiffusionConfig(timesteps=20, beta_start=0.01, beta_end=0.2)
    signal, variance = 1.0, 0.0
    for step in range(8):
        beta = 0.01 + 0.19 * step / 19
        signal, variance = signal * math.sqrt(1 - beta), variance * (1 - beta) + beta
    x0, noise = torch.randn(1, 3, 2, 2, generator=draw), torch.randn(1, 3, 2, 2, generator=draw)
    x_t = Schedule(config).add_noise(x0, noise, torch.tensor([7]))
    torch.testing.assert_close(x_t, signal * x0 + math.sqrt(variance) * noise)


def test_the_true_noise_gives_the_image_back(draw):
    schedule = Schedule(DiffusionConfig())
    x0, noise = torch.rand(4, 3, 8, 8, generator=draw) * 2 - 1, torch.randn(4, 3, 8, 8, generator=draw)
    t = torch.tensor([0, 10, 500, 999])
    found = schedule.predict_x0(schedule.add_noise(x0, noise, t), noise, t)
    torch.testing.assert_close(found, x0, atol=2e-4, rtol=0)  # at t = 999 the noise is 157 times the image
