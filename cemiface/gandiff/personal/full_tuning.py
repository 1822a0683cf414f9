"""Fine-tuning of all weights for one identity, as DreamBooth does (Ruiz et al. 2023, arXiv 2208.12242)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cemiface.errors import ModelError
from cemiface.gandiff.personal.lora import TOKEN

WEIGHT = "weight."  # before the name of each of the net's parameters


class FullWeights(nn.Module):
    """All weights of a net for one identity, and its vector; used as `LoraAdapters` is."""

    def __init__(self, net: nn.Module, *, token: Tensor) -> None:
        super().__init__()
        self.original = [net]  # in a list, so that it is no part of this module
        self.token = nn.Parameter(token.detach().clone()[None])
        self.tuned = copy.deepcopy(net).requires_grad_(True)

    def __len__(self) -> int:
        return 1

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within the block, the original net has these weights; gradients go to them."""
        net = self.original[0]
        own = dict(net.named_parameters())
        try:
            _swap(net, dict(self.tuned.named_parameters()))
            yield
        finally:
            _swap(net, own)

    def clip(self, *, largest: float) -> Tensor:
        """As `LoraAdapters.clip`."""
        return torch.nn.utils.clip_grad_norm_(self.parameters(), largest)[None]

    def keep(self, rows: Sequence[int], *, optimizer: torch.optim.Optimizer) -> None:
        """There is one identity; it cannot be left out."""
        assert list(rows) == [0]

    def tokens(self, each: int) -> Tensor:
        """The identity's vector, (each, width)."""
        return self.token.repeat_interleave(each, dim=0)

    def state(self, identity: int = 0) -> dict[str, Tensor]:
        """Copies of the weights, and the identity's vector as `token`."""
        assert identity == 0
        found: dict[str, Tensor] = {f"{WEIGHT}{name}": parameter for name, parameter in self.tuned.named_parameters()}
        found[TOKEN] = self.token[0]
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in found.items()}

    @torch.no_grad()
    def load(self, identity: int, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gives. Raises ModelError if it belongs to another net."""
        own = self.state(identity)
        if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
            raise ModelError("adapter: its weights are those of another net; it was made for another base")
        for name, parameter in self.tuned.named_parameters():
            parameter.copy_(tensors[f"{WEIGHT}{name}"])
        self.token.data[0] = tensors[TOKEN]


def _swap(net: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        holder, _, own = name.rpartition(".")
        setattr(net.get_submodule(holder), own, parameter)
