from __future__ import annotations

import math

import pytest
import torch

from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.schedule import Schedule


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


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_the_true_output_recovers_image_and_noise(draw, prediction):
    schedule = Schedule(DiffusionConfig(prediction=prediction))
    x0, noise = torch.rand(4, 3, 8, 8, generator=draw) * 2 - 1, torch.randn(4, 3, 8, 8, generator=draw)
    t = torch.tensor([0, 10, 500, 999])
    x_t = schedule.add_noise(x0, noise, t)
    output = schedule.target(x_t, noise, t)
    # At t = 999 the noise is 157 times the image.
    torch.testing.assert_close(schedule.predict_x0(x_t, output, t), x0, atol=2e-4, rtol=0)
    torch.testing.assert_close(schedule.predict_noise(x_t, output, t), noise, atol=2e-4, rtol=0)


def test_the_velocity_leads_from_noise_to_image(draw):
    schedule = Schedule(DiffusionConfig(prediction="velocity"))
    x0, noise = torch.rand(3, 3, 8, 8, generator=draw) * 2 - 1, torch.randn(3, 3, 8, 8, generator=draw)
    t = torch.tensor([10, 500, 999])
    alpha_bar = schedule.alpha_bar[t][:, None, None, None]
    found = schedule.target(schedule.add_noise(x0, noise, t), noise, t)
    torch.testing.assert_close(found, alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0, atol=2e-4, rtol=0)


def test_an_error_of_the_velocity_is_no_larger_in_the_image_at_any_timestep(draw):
    """An error of the noise is 157 times as large in the image at the last timestep."""
    x0, noise = torch.rand(1, 3, 8, 8, generator=draw) * 2 - 1, torch.randn(1, 3, 8, 8, generator=draw)
    t, off = torch.tensor([999]), 0.01
    errors = {}
    for prediction in ("noise", "velocity"):
        schedule = Schedule(DiffusionConfig(prediction=prediction))
        x_t = schedule.add_noise(x0, noise, t)
        found = schedule.predict_x0(x_t, schedule.target(x_t, noise, t) + off, t)
        errors[prediction] = (found - x0).abs().max().item()
    assert errors["velocity"] < 1.1 * off
    assert errors["noise"] > 100 * off
