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


@pytest.mark.parametrize("patch", [2, 4])
def test_a_net_of_blocks_has_images_of_full_size_and_the_stated_cost(patch, draw):
    config = CONFIG.model_copy(update={"image_size": 16 * patch, "patch": patch})
    net = UNet(config, condition=Words())
    torch.nn.init.normal_(net.output.weight, std=0.1)
    x = torch.randn(2, 3, 16 * patch, 16 * patch, generator=draw)
    out = net(x, torch.tensor([3, 500]), torch.tensor([[1], [4]]))
    assert out.shape == x.shape
    cost = unet_cost(config, condition_width=6, condition_tokens=2)
    parameters, adapter = net.parameter_counts()
    assert (cost.parameters, cost.adapter_parameters) == (parameters, adapter - 60)
    assert cost.macs < 1.2 * unet_cost(CONFIG, condition_width=6, condition_tokens=2).macs


def test_pixels_of_a_block_keep_their_places(draw):
    config = CONFIG.model_copy(update={"image_size": 32, "patch": 2})
    net = UNet(config, condition=Words())
    x = torch.randn(1, 3, 32, 32, generator=draw)
    net.stem = torch.nn.Identity()
    net.encoder, net.decoder = torch.nn.ModuleList(), torch.nn.ModuleList()
    net.middle, net.middle_out = (_First() for _ in range(2))
    net.norm, net.output = torch.nn.Identity(), _Doubled()
    with torch.no_grad():
        out = net(x, torch.tensor([3]), torch.tensor([[1]]))
    torch.testing.assert_close(out, torch.nn.functional.silu(x))
    assert "patch" not in CONFIG.model_dump()  # files of nets without it stay as they were
    assert UNetConfig.model_validate_json(config.model_dump_json()) == config


class _First(torch.nn.Module):
    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return x


class _Doubled(torch.nn.Module):
    """Each output channel of a block once more, for the channels that nothing reads."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], dim=1)
