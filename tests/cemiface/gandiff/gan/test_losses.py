"""The GAN's losses: gradient penalties against formulas and finite differences, and what the pairing loss pulls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cemiface.gandiff.gan.config import GanConfig, GanLossConfig
from cemiface.gandiff.gan.losses import critic_losses, generator_loss, gradient_penalty, pairing_loss
from cemiface.gandiff.gan.nets import Critic


class Quadratic(nn.Module):
    """The score a * sum(x^2) / 2 + b * sum(x), whose gradient is a x + b."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x.square().sum((1, 2, 3)) / 2 + self.b * x.sum((1, 2, 3))


def test_the_penalty_is_the_squared_norm_of_the_gradient_per_image() -> None:
    critic, x = Quadratic(0.7, -0.3), torch.randn(4, 3, 5, 5, requires_grad=True)
    found = gradient_penalty(critic(x), images=x)
    torch.testing.assert_close(found, (0.7 * x - 0.3).square().sum((1, 2, 3)))
    (by_a,) = torch.autograd.grad(found.sum(), critic.a)
    torch.testing.assert_close(by_a, (2 * (0.7 * x - 0.3) * x).sum())


def test_the_critic_is_pulled_by_the_penalties_as_finite_differences_say() -> None:
    torch.manual_seed(0)
    critic = Critic(GanConfig.named("tiny32", image_size=16)).double()
    real, fake = torch.randn(2, 2, 3, 16, 16).double().unbind(0)
    config = GanLossConfig(gamma=0.8, penalty_every=4)

    def total() -> Tensor:
        return critic_losses(critic, real=real, fake=fake, config=config, penalized=True)["critic_loss"]

    total().backward()
    for parameter in (critic.first.weight, critic.blocks[0].second.bias, critic.score.weight):
        assert parameter.grad is not None
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            step = 1e-6 * direction
            parameter += step
        above = total().item()
        with torch.no_grad():
            parameter -= 2 * step
        below = total().item()
        with torch.no_grad():
            parameter += step
        assert (parameter.grad * direction).sum().item() == pytest.approx((above - below) / 2e-6, rel=1e-4)


def test_penalties_count_as_often_as_they_are_left_out() -> None:
    critic, real, fake = Quadratic(0.2, 0.1), torch.randn(3, 3, 4, 4), torch.randn(3, 3, 4, 4)
    losses = critic_losses(
        critic, real=real, fake=fake, config=GanLossConfig(gamma=3.0, penalty_every=5), penalized=True
    )
    expected = losses["pairing"] + 5 * 3 / 2 * (losses["r1"] + losses["r2"])
    torch.testing.assert_close(losses["critic_loss"], expected)
    plain = critic_losses(critic, real=real, fake=fake, config=GanLossConfig(), penalized=False)
    assert torch.equal(plain["critic_loss"], plain["pairing"])
    assert "r1" not in plain


def test_the_pairing_loss_compares_partners() -> None:
    low, high = torch.tensor([0.0, 5.0]), torch.tensor([3.0, 9.0])
    expected = torch.log1p(torch.exp(torch.tensor([-3.0, -4.0]))).mean()
    torch.testing.assert_close(pairing_loss(high, than=low), expected)
    assert pairing_loss(low, than=high) > 3


def test_the_generator_gets_a_gradient_and_the_real_images_none() -> None:
    critic, real, fake = Quadratic(0.1, 0.5), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4, requires_grad=True)
    real.requires_grad_()
    generator_loss(critic, real=real, fake=fake).backward()
    assert real.grad is None
    assert fake.grad is not None
    with torch.no_grad():  # a step down the gradient raises the critic's scores
        assert (critic(fake - 0.1 * fake.grad) > critic(fake)).all()
