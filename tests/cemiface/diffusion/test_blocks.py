from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cemiface.diffusion.blocks import Attention, GroupNorm, ResidualBlock


def test_attention_is_one_softmax_over_condition_and_image_tokens(draw):
    """Eq. 8, head by head and pixel by pixel."""
    block = Attention(64, head_channels=32, condition_width=6)
    torch.nn.init.normal_(block.project.weight, std=0.1, generator=draw)
    x = torch.randn(1, 64, 2, 3, generator=draw)
    condition = torch.randn(1, 6, generator=draw)
    q, k, v = block.qkv(block.norm(x))[0].flatten(1).chunk(3)  # each (64, 6)
    ck, cv = block.condition(condition)[0].chunk(2)
    out = torch.zeros(64, 6)
    for head in (slice(0, 32), slice(32, 64)):
        keys = [ck[head]] + [k[head, j] for j in range(6)]
        values = [cv[head]] + [v[head, j] for j in range(6)]
        for pixel in range(6):
            logits = torch.stack([q[head, pixel] @ key for key in keys]) / math.sqrt(32)
            out[head, pixel] = sum(w * value for w, value in zip(logits.softmax(0), values, strict=True))
    expected = x + block.project(out.view(1, 64, 2, 3))
    torch.testing.assert_close(block(x, condition), expected)


def test_a_residual_block_scales_and_shifts_by_the_time(draw):
    block = ResidualBlock(32, 64, time_width=4)
    torch.nn.init.normal_(block.conv_out.weight, std=0.1, generator=draw)
    x, time = torch.randn(2, 32, 4, 4, generator=draw), torch.randn(2, 4, generator=draw)
    h = block.conv_in(F.silu(F.group_norm(x, 8, block.norm_in.weight, block.norm_in.bias)))
    emb = time @ block.time.weight.T + block.time.bias
    h = F.group_norm(h, 16) * (1 + emb[:, :64, None, None]) + emb[:, 64:, None, None]
    torch.testing.assert_close(block(x, time), block.skip(x) + block.conv_out(F.silu(h)))


@pytest.mark.parametrize(("resample", "size"), [("down", 4), ("up", 16), (None, 8)])
def test_a_residual_block_starts_as_the_resampled_input(resample, size, draw):
    x = torch.randn(1, 32, 8, 8, generator=draw)
    out = ResidualBlock(32, 32, time_width=4, resample=resample)(x, torch.zeros(1, 4))
    assert out.shape[-1] == size
    torch.testing.assert_close(F.interpolate(out, size=(4, 4), mode="area"), F.avg_pool2d(x, 2))


@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (64, 16), (96, 24), (128, 32), (512, 32)])
def test_no_channel_is_alone_in_its_group_and_the_paper_has_32(channels, groups):
    assert GroupNorm(channels).num_groups == groups


def test_group_norm_is_computed_in_float32(draw):
    x = (torch.randn(1, 32, 4, 4, generator=draw) + 300).bfloat16()  # bfloat16 squares would lose the variance
    norm = GroupNorm(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = norm(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), F.group_norm(x.float(), 8), atol=0.01, rtol=0.01)


def test_a_sequence_of_conditions_gives_tokens_for_each_of_its_vectors(draw):
    """Two vectors with one token each attend as one vector whose projection is both: keys and values have no order."""
    block = Attention(64, head_channels=32, condition_width=6)
    torch.nn.init.normal_(block.project.weight, std=0.1, generator=draw)
    x, condition = torch.randn(2, 64, 2, 2, generator=draw), torch.randn(2, 2, 6, generator=draw)
    both = Attention(64, head_channels=32, condition_width=12, condition_tokens=2)
    both.load_state_dict({**block.state_dict(), **{f"condition.{n}": p for n, p in both.condition.named_parameters()}})
    weight, bias = block.condition.weight.view(2, 2, 32, 6), block.condition.bias.view(2, 2, 32)  # keys/values, heads
    joined = torch.zeros(2, 2, 2, 32, 12)  # keys/values, heads, tokens
    joined[:, :, 0, :, :6] = joined[:, :, 1, :, 6:] = weight
    both.condition.weight.data = joined.reshape(256, 12)
    both.condition.bias.data = torch.stack([bias, bias], 2).reshape(256)
    torch.testing.assert_close(block(x, condition), both(x, condition.flatten(1)))
    assert torch.equal(block(x, condition[:, :1]), block(x, condition[:, 0]))
    assert not torch.allclose(block(x, condition), block(x, condition[:, 0]))
