"""Inception v3 (Szegedy et al. 2016, arXiv 1512.00567) in the variant used for Frechet distances.

Features only. The user supplies the weights, e.g. those published by pytorch-fid, whose parameter names are used here.
Unlike in torchvision's net, average pools exclude the padding, and the last block has a max pool.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.weights import copy_weights, read_weights

SIDE = 299  # pixels; the input size the net was trained with
HEADS = ("fc.", "AuxLogits.")  # classifiers, not needed for features
ROW, COLUMN = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
Convolutions = dict[str, tuple[int, dict[str, Any]]]  # name: output channels and shape; empty for 1x1


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, kernel: Any = 1, stride: int = 1, padding: Any = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y.relu()


class Block(nn.Module):
    """Parallel branches with concatenated channels; a branch is a chain of convolutions that may fork at its end."""

    def __init__(self, inputs: int, *, branches: tuple[Convolutions, ...], pool: str) -> None:
        super().__init__()
        self.pool, self.chains = pool, tuple(tuple(branch) for branch in branches)
        self.outputs = 0 if pool != "max, strided" else inputs
        for branch in branches:
            width = inputs
            for name, (outputs, shape) in branch.items():
                self.add_module(name, Conv(width, outputs, **shape))
                fork = name.endswith(("a", "b"))
                width = width if fork else outputs
                self.outputs += outputs if fork else 0
            self.outputs += 0 if fork else outputs

    def forward(self, x: Tensor) -> Tensor:
        joined: list[Tensor] = []
        for chain in self.chains:
            h = self._pooled(x) if chain == ("branch_pool",) else x
            ends = []
            for name in chain:
                made = self.get_submodule(name)(h)
                if name.endswith(("a", "b")):
                    ends.append(made)
                else:
                    h = made
            joined += ends or [h]
        return torch.cat([*joined, self._pooled(x)] if self.pool == "max, strided" else joined, 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "max, strided":
            return F.max_pool2d(x, 3, 2)
        if self.pool == "max":
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _plain(outputs: int) -> tuple[int, dict[str, Any]]:
    return outputs, {}


def _square(outputs: int, side: int = 3, *, stride: int = 1) -> tuple[int, dict[str, Any]]:
    return outputs, {"kernel": side, "stride": stride, "padding": side // 2 if stride == 1 else 0}


def _block_a(inputs: int, *, pool: int) -> Block:
    five: Convolutions = {"branch5x5_1": _plain(48), "branch5x5_2": _square(64, 5)}
    three = {"branch3x3dbl_1": _plain(64), "branch3x3dbl_2": _square(96), "branch3x3dbl_3": _square(96)}
    ends: Convolutions = {"branch_pool": _plain(pool)}
    return Block(inputs, branches=({"branch1x1": _plain(64)}, five, three, ends), pool="average")


def _block_b(inputs: int) -> Block:
    three = {"branch3x3dbl_1": _plain(64), "branch3x3dbl_2": _square(96), "branch3x3dbl_3": _square(96, stride=2)}
    return Block(inputs, branches=({"branch3x3": _square(384, stride=2)}, three), pool="max, strided")


def _block_c(inputs: int, *, width: int) -> Block:
    seven: Convolutions = {"branch7x7_1": _plain(width), "branch7x7_2": (width, ROW), "branch7x7_3": (192, COLUMN)}
    twice: Convolutions = {"branch7x7dbl_1": _plain(width), "branch7x7dbl_2": (width, COLUMN)}
    twice |= {"branch7x7dbl_3": (width, ROW), "branch7x7dbl_4": (width, COLUMN), "branch7x7dbl_5": (192, ROW)}
    ends: Convolutions = {"branch_pool": _plain(192)}
    return Block(inputs, branches=({"branch1x1": _plain(192)}, seven, twice, ends), pool="average")


def _block_d(inputs: int) -> Block:
    three = {"branch3x3_1": _plain(192), "branch3x3_2": _square(320, stride=2)}
    seven: Convolutions = {"branch7x7x3_1": _plain(192), "branch7x7x3_2": (192, ROW)}
    seven |= {"branch7x7x3_3": (192, COLUMN), "branch7x7x3_4": _square(192, stride=2)}
    return Block(inputs, branches=(three, seven), pool="max, strided")


def _block_e(inputs: int, *, pool: str) -> Block:
    row, column = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
    three: Convolutions = {"branch3x3_1": _plain(384), "branch3x3_2a": (384, row), "branch3x3_2b": (384, column)}
    twice: Convolutions = {"branch3x3dbl_1": _plain(448), "branch3x3dbl_2": _square(384)}
    twice |= {"branch3x3dbl_3a": (384, row), "branch3x3dbl_3b": (384, column)}
    ends: Convolutions = {"branch_pool": _plain(192)}
    return Block(inputs, branches=({"branch1x1": _plain(320)}, three, twice, ends), pool=pool)


class Inception(nn.Module):
    """RGB (N, 3, S, S) in [-1, 1] to pooled features (N, 2048)."""

    embedding = 2048

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, kernel=3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, kernel=3)
        self.Conv2d_2b_3x3 = Conv(32, 64, kernel=3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, kernel=3)
        blocks = {"5b": _block_a(192, pool=32), "5c": _block_a(256, pool=64), "5d": _block_a(288, pool=64)}
        blocks |= {"6a": _block_b(288)}
        blocks |= {
            f"6{name}": _block_c(768, width=width) for name, width in zip("bcde", (128, 160, 160, 192), strict=True)
        }
        blocks |= {"7a": _block_d(768), "7b": _block_e(1280, pool="average"), "7c": _block_e(2048, pool="max")}
        self.blocks = [f"Mixed_{name}" for name in blocks]
        for name, block in blocks.items():
            self.add_module(f"Mixed_{name}", block)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


def load_inception(path: str | Path) -> Inception:
    """Load the net, frozen and in eval mode; raises ModelError for unusable files, as `load_recognition` does."""
    tensors, _ = read_weights(path)
    net = Inception()
    copy_weights(net, {name: tensor for name, tensor in tensors.items() if not name.startswith(HEADS)}, path=path)
    return net.requires_grad_(False).eval()
