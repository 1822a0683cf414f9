from __future__ import annotations

import pytest
import torch

from cemiface.semihard.config import PRESETS, DenoiserConfig
from cemiface.semihard.cost import denoiser_cost
from cemiface.semihard.denoiser import Denoiser


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("fields", [{}, {"blocks": 2, "condition_tokens": 3, "embedding": 128}])
def test_the_cost_of_a_config_is_that_of_the_net_built(preset, fields, mac_count):
    config = DenoiserConfig.named(preset, **fields)
    with torch.device("meta"):
        denoiser = Denoiser(config)
        x = torch.empty(1, 3, config.image_size, config.image_size)
        inputs = (x, torch.zeros(1, dtype=torch.long), torch.empty(1, config.embedding), torch.empty(1))
    cost = denoiser_cost(config)
    assert (cost.parameters, cost.adapter_parameters) == denoiser.parameter_counts()
    macs = mac_count(denoiser, *inputs)
    assert cost.macs == macs["Conv2d"] + macs["Linear"] + macs["Attention"]


def test_cost_of_the_paper_network_matches_the_published_figures():
    cost = denoiser_cost(DenoiserConfig.named("paper112"))
    assert cost.parameters == 93_563_910
    assert cost.macs / 1e9 == pytest.approx(38.4, abs=0.05)
