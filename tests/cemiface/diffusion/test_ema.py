from __future__ import annotations

import pytest
import torch
from torch import nn

from cemiface.diffusion.ema import Ema


def test_the_average_follows_the_recurrence(draw):
    module = nn.Linear(2, 2)
    ema = Ema(module, decay=0.9, warmup=False)
    average = module.weight.detach().clone()
    for step in range(5):
        module.weight.data = torch.randn(2, 2, generator=draw)
        ema.update(module, step=step)
        average = 0.9 * average + 0.1 * module.weight.detach()
    torch.testing.assert_close(ema.module.weight, average)


def test_warmup_forgets_the_random_start():
    ema = Ema(nn.Linear(1, 1), decay=0.999)
    assert [ema.decay_at(step) for step in (0, 8)] == [0.1, 0.5]
    assert ema.decay_at(10**6) == 0.999


def test_the_average_is_float32_frozen_and_in_eval_mode():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).bfloat16()
    ema = Ema(module, decay=0.5)
    ema.update(module, step=0)
    assert not ema.module.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in ema.module.parameters())


def test_small_moves_of_low_precision_weights_are_not_lost():
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    ema = Ema(module, decay=0.999, warmup=False)
    module.weight.data.fill_(1.25)
    module.bfloat16()
    for step in range(100):
        ema.update(module, step=step)
    assert ema.module.weight.item() == pytest.approx(1.25 - 0.25 * 0.999**100, rel=1e-5)


def test_buffers_are_copied_and_the_source_is_left_alone():
    module = nn.BatchNorm1d(2)
    ema = Ema(module, decay=0.9)
    module.running_mean.fill_(3)
    ema.update(module, step=0)
    assert ema.module.running_mean.tolist() == [3, 3]
    assert module.training


def test_a_restored_average_continues_as_if_uninterrupted():
    module = nn.Linear(2, 2)
    one, two = Ema(module, decay=0.9), Ema(nn.Linear(2, 2), decay=0.9)
    two.module.load_state_dict(one.module.state_dict())
    module.weight.data += 1
    for ema in (one, two):
        ema.update(module, step=30)
    assert torch.equal(one.module.weight, two.module.weight)
