"""Run torch on one thread: the tests share few cores, and sums then have a fixed order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from cemiface.diffusion.blocks import Attention


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def mac_count() -> Callable[..., Counter[str]]:
    return count_macs


def count_macs(module: nn.Module, *inputs: Tensor) -> Counter[str]:
    """Multiply-accumulates of a forward pass, by kind of layer.

    Convolutions and linear layers: outputs times the inputs each is made of, biases free. Attention: the products of
    queries with keys and of weights with values, the condition tokens included. Other layers: one per output.
    """
    counted: Counter[str] = Counter()

    def hook(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            counted["Conv2d"] += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            counted["Linear"] += output.numel() * layer.in_features
        elif isinstance(layer, Attention):
            pixels = output.shape[2] * output.shape[3]
            vectors = given[1].shape[1] if given[1].dim() == 3 else 1
            counted["Attention"] += 2 * pixels * (pixels + layer.tokens * vectors) * output.shape[1]
        elif not list(layer.children()):
            counted[type(layer).__name__] += output.numel()

    handles = [layer.register_forward_hook(hook) for layer in module.modules()]
    module(*inputs)
    for handle in handles:
        handle.remove()
    return counted
