"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) of several identities on one net, trained in one batch.

A batch has equal groups of consecutive samples, one per identity. Each group goes through the branches of its identity,
and through the shared weights together with the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.errors import ModelError
from cemiface.gandiff.personal.config import LoraConfig

PEFT = "base_model.model."  # before the name of every layer in peft's files
DIFFUSERS = "unet."  # the same in diffusers' files
TOKEN = "token"  # noqa: S105 (the identity's vector, no secret)
IN_ATTENTION = {"attention", "attn1", "attn2"}  # parts of names, in the suite's U-Net and in that of diffusers

Layer = nn.Conv2d | nn.Linear


def lora_layers(net: nn.Module, config: LoraConfig) -> dict[str, Layer]:
    """The layers that get a branch, by name. Raises ModelError if the net has none."""
    found: dict[str, Layer] = {}
    for name, module in net.named_modules():
        attends = not IN_ATTENTION.isdisjoint(name.split("."))
        kinds = (nn.Conv2d, nn.Linear) if attends else (nn.Conv2d,)
        if isinstance(module, kinds) and (attends or config.layers == "all"):
            found[name] = module
    if not found:
        raise ModelError(f"lora.layers: got {config.layers}; the net has no such layer; allowed: all")
    return found


class LoraAdapters(nn.Module):
    """The branches of some identities, and the vector of each; without a config the vector alone.

    All parameters have the identities as their first dimension, so that one tensor holds those of all.
    """

    def __init__(self, net: nn.Module, config: LoraConfig | None, *, seeds: Sequence[int], token: Tensor) -> None:
        """Branches of zero effect; identity i starts from seeds[i] alone and from the vector `token` (width,)."""
        super().__init__()
        self.layers = lora_layers(net, config) if config else {}
        config = config or LoraConfig()
        self.config = config
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        down, up = [], []
        for layer in self.layers.values():
            shape, outputs = _shapes(layer, rank=config.rank)
            bound = 1 / math.sqrt(math.prod(shape[1:]))  # as peft: Kaiming with a = sqrt(5)
            down.append(torch.stack([(2 * torch.rand(shape, generator=draw) - 1) * bound for draw in draws]))
            up.append(torch.zeros(len(seeds), outputs, config.rank))
        device = token.device
        self.down = nn.ParameterList(nn.Parameter(tensor.to(device)) for tensor in down)
        self.up = nn.ParameterList(nn.Parameter(tensor.to(device)) for tensor in up)
        self.token = nn.Parameter(token.detach().expand(len(seeds), -1).clone())

    def __len__(self) -> int:
        """The number of identities."""
        return len(self.token)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within the block, the net of these adapters computes with them."""
        hooks = [
            layer.register_forward_hook(self._hook(down, up))
            for layer, down, up in zip(self.layers.values(), self.down, self.up, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def clip(self, *, largest: float) -> Tensor:
        """Clip the gradient of each identity; see `clip_each`."""
        return clip_each(list(self.parameters()), largest=largest)

    @torch.no_grad()
    def keep(self, rows: Sequence[int], *, optimizer: torch.optim.Optimizer) -> None:
        """Go on with some of the identities alone; the optimizer's moments follow."""
        replaced: dict[Tensor, nn.Parameter] = {}
        for old in list(self.parameters()):
            new = replaced[old] = nn.Parameter(old[list(rows)].clone())
            state = optimizer.state.pop(old, {})
            kept = {
                name: value[list(rows)].clone() if value.shape == old.shape else value for name, value in state.items()
            }
            optimizer.state[new] = kept
        for group in optimizer.param_groups:
            group["params"] = [replaced[old] for old in group["params"]]
        self.down = nn.ParameterList(replaced[old] for old in self.down)
        self.up = nn.ParameterList(replaced[old] for old in self.up)
        self.token = replaced[self.token]

    def tokens(self, each: int) -> Tensor:
        """The identity's vector for `each` samples per identity, (identities * each, width)."""
        return self.token.repeat_interleave(each, dim=0)

    def state(self, identity: int) -> dict[str, Tensor]:
        """Copies of the tensors of one identity, under the names that peft gives them, and its vector as `token`."""
        found = {TOKEN: self.token[identity]}
        for (name, layer), down, up in zip(self.layers.items(), self.down, self.up, strict=True):
            found[f"{PEFT}{name}.lora_A.weight"] = down[identity]
            raised = up[identity]
            found[f"{PEFT}{name}.lora_B.weight"] = raised[:, :, None, None] if isinstance(layer, nn.Conv2d) else raised
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in found.items()}

    @torch.no_grad()
    def load(self, identity: int, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of one identity, as `state` gives them.

        Raises ModelError if they belong to another net, rank or choice of layers.
        """
        own = self.state(identity)
        other = sorted(own.keys() ^ tensors.keys()) or [n for n in own if own[n].shape != tensors[n].shape]
        if other:
            raise ModelError(
                f"adapter: {other[0]} is missing, unexpected or of another shape; it was made for another base or rank"
            )
        self.token[identity] = tensors[TOKEN]
        for name, down, up in zip(self.layers, self.down, self.up, strict=True):
            down[identity] = tensors[f"{PEFT}{name}.lora_A.weight"]
            up[identity] = tensors[f"{PEFT}{name}.lora_B.weight"].reshape(up.shape[1:])

    def _hook(self, down: Tensor, up: Tensor) -> Any:
        def add_branch(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            return output + self.config.scale * branch(given[0], layer, down=down, up=up)

        return add_branch


def branch(x: Tensor, layer: Layer, *, down: Tensor, up: Tensor) -> Tensor:
    """The output of a layer's branches, of the shape of the layer's own output.

    Args:
        x: the layer's input, equal groups of samples for I identities.
        down, up: (I, rank, ...) and (I, outputs, rank).
    """
    count = len(up)
    assert len(x) % count == 0
    if isinstance(layer, nn.Linear):
        low = torch.einsum("ibtc,irc->ibtr", x.reshape(count, len(x) // count, -1, x.shape[-1]), down)
        added: Tensor = torch.einsum("ibtr,ior->ibto", low, up).reshape(*x.shape[:-1], up.shape[1])
        return added
    # A convolution per identity: on CPUs faster than one with groups, which also copies x.
    parts = [
        F.conv2d(
            F.conv2d(part, down[number], None, layer.stride, layer.padding, layer.dilation),
            up[number][:, :, None, None],
        )
        for number, part in enumerate(x.chunk(count))
    ]
    return torch.cat(parts)


def clip_each(parameters: Sequence[Tensor], *, largest: float) -> Tensor:
    """Scale the gradient of each identity to a norm of at most `largest`, in place; returns the norms (I,) before.

    As `clip_grad_norm_`, for parameters whose first dimension are the identities.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms: Tensor = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (largest / (norms + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factors.reshape(-1, *[1] * (gradient.dim() - 1)))
    return norms


def peft_config(config: LoraConfig, names: Sequence[str]) -> dict[str, Any]:
    """The adapter_config.json with which peft loads the tensors of `LoraAdapters.state`."""
    return {
        "peft_type": "LORA",
        "r": config.rank,
        "lora_alpha": config.alpha or config.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(names),
        "inference_mode": True,
    }


def diffusers_names(tensors: Mapping[str, Tensor], *, scale: float = 1.0) -> dict[str, Tensor]:
    """The branches under the names with which `load_lora_weights` of diffusers takes them.

    Diffusers reads no alpha from such tensors, so the scale of the config is multiplied in.
    """
    return {
        DIFFUSERS + name.removeprefix(PEFT): scale * tensor if name.endswith("lora_B.weight") else tensor
        for name, tensor in tensors.items()
        if name.startswith(PEFT)
    }


def _shapes(layer: Layer, *, rank: int) -> tuple[tuple[int, ...], int]:
    """The shape of the down part, and the outputs of the up part."""
    if isinstance(layer, nn.Linear):
        return (rank, layer.in_features), layer.out_features
    if layer.groups != 1 or layer.padding_mode != "zeros":
        raise ModelError("lora.layers: a convolution with groups or other padding; allowed: plain ones; use attention")
    return (rank, layer.in_channels, *layer.kernel_size), layer.out_channels
