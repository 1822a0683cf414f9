from __future__ import annotations

import pytest
import torch
from torch import nn

from cemiface.recognition.sync_norm import HostSyncNorm, synchronized


@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, (4, 3)), (nn.BatchNorm2d, (4, 3, 2, 2))])
def test_a_synchronized_norm_shares_state_and_names_and_evaluates_to_the_same_bits(kind, shape, draw):
    norm = kind(3)
    norm(torch.randn(shape, generator=draw))  # moves the statistics
    net = nn.Sequential(norm)
    state = net.state_dict(keep_vars=True)
    replaced = synchronized(net, device=torch.device("cpu"))
    assert isinstance(replaced[0], HostSyncNorm)
    found = replaced.state_dict(keep_vars=True)
    assert list(found) == list(state)
    assert all(found[name] is tensor for name, tensor in state.items())
    x = torch.randn(shape, generator=draw)
    assert torch.equal(replaced.eval()(x), norm.eval()(x))
