from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cemiface.diffusion.config import UNetConfig
from cemiface.diffusion.cost import unet_cost
from cemiface.diffusion.unet import Condition, UNet, timestep_embedding

CONFIG = UNetConfig(
    image_size=16, channels=32, multipliers=(1, 2), attention_levels=(1,), head_channels=32, skip_downsample_level=None
)


class Words(Condition):
    """A condition of another method: a sequence of vectors, picked by number."""

    def __init__(self) -> None:
        super().__init__(width=6, tokens=2)
        self.table = torch.nn.Embedding(10, 6)

    def forward(self, words: Tensor) -> Tensor:
        return self.table(words)


@pytest.fixture
def net() -> UNet:
    torch.manual_seed(0)
    module = UNet(CONFIG, condition=Words())
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return module


def test_a_custom_condition_reaches_every_attention_block(net, draw):
    x, t = torch.randn(2, 3, 16, 16, generator=draw), torch.tensor([3, 500])
    one = net(x, t, torch.tensor([[1, 2, 3], [4, 5, 6]]))
    other = net(x, t, torch.tensor([[1, 2, 3], [4, 5, 7]]))
    assert one.shape == x.shape
    torch.testing.assert_close(one[0], other[0])
    assert not torch.allclose(one[1], other[1])
    one.square().sum().backward()
    assert net.condition.table.weight.grad.abs().sum() > 0


def test_the_cost_without_the_condition_is_that_of_the_net_built(net):
    cost = unet_cost(CONFIG, condition_width=6, condition_tokens=2)
    parameters, adapter = net.parameter_counts()
    assert (cost.parameters, cost.adapter_parameters) == (parameters, adapter - 60)  # the table of Words


def test_timesteps_embed_as_cosines_and_sines():
    out = timestep_embedding(torch.tensor([0, 7]), 8)
    frequencies = [10_000 ** (-k / 4) for k in range(4)]
    expected = [[math.cos(t * f) for f in frequencies] + [math.sin(t * f) for f in frequencies] for t in (0, 7)]
    torch.testing.assert_close(out, torch.tensor(expected))
