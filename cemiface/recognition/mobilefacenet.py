"""MobileFaceNet (Chen et al. 2018, arXiv 1804.07573, table 1), to train, and with its batch norm folded away."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cemiface.recognition.config import FoldedConfig

SETTING = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))  # expansion, channels, n, s


class ConvBlock(nn.Module):
    """Convolution, batch norm (or, folded, a bias) and activation."""

    FOLDS = (("conv", "norm"),)  # see `nets.fold_norms`

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        groups: int = 1,
        act: str | None = None,
        folded: bool,
    ) -> None:
        super().__init__()
        padding = 1 if kernel == 3 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=folded)
        self.norm = nn.Identity() if folded else nn.BatchNorm2d(outputs)
        self.act = activation(act, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class Bottleneck(nn.Module):
    """Expand, convolve depthwise, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int, act: str, folded: bool) -> None:
        super().__init__()
        self.skip = stride == 1 and inputs == outputs
        width = inputs * expansion
        self.body = nn.Sequential(
            ConvBlock(inputs, width, 1, act=act, folded=folded),
            ConvBlock(width, width, 3, stride=stride, groups=width, act=act, folded=folded),
            ConvBlock(width, outputs, 1, folded=folded),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.skip else y


class MobileFaceNet(nn.Module):
    """(N, 3, S, S) RGB in [-1, 1] to (N, embedding), not normalized."""

    def __init__(
        self,
        *,
        embedding: int,
        last: tuple[int, int],
        act: str = "prelu",
        separable_stem: bool = False,
        folded: bool = False,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = [ConvBlock(3, 64, 3, stride=2, act=act, folded=folded)]
        if separable_stem:
            blocks.append(ConvBlock(64, 64, 3, groups=64, act="relu", folded=folded))
            blocks.append(ConvBlock(64, 64, 1, act="relu", folded=folded))
        else:
            blocks.append(ConvBlock(64, 64, 3, groups=64, act=act, folded=folded))
        width = 64
        for expansion, outputs, count, stride in SETTING:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(Bottleneck(width, outputs, stride=step, expansion=expansion, act=act, folded=folded))
                width = outputs
        blocks.append(ConvBlock(128, 512, 1, act=act, folded=folded))
        blocks.append(ConvBlock(512, 512, last, groups=512, folded=folded))  # global depthwise, instead of pooling
        blocks.append(ConvBlock(512, embedding, 1, folded=folded))
        self.net = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.net(x)
        return embedding.flatten(1).float()


class FoldedMobileFaceNet(MobileFaceNet):
    """The layout of published weights whose norm is folded: with their own input scaling, channel order and crop."""

    scale: Tensor
    shift: Tensor

    def __init__(self, layout: FoldedConfig) -> None:
        super().__init__(
            embedding=layout.dim, last=layout.last, act=layout.act, separable_stem=layout.stem_pw, folded=True
        )
        self.layout = layout
        self.register_buffer("scale", torch.tensor(layout.scale).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(layout.shift).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale + self.shift
        if self.layout.bgr:
            x = x.flip(1)
        if self.layout.crop is not None:
            left, right = self.layout.crop
            x = x[..., left:right]
        return super().forward(x)


def activation(kind: str | None, channels: int) -> nn.Module:
    """The activation of that name."""
    if kind is None:
        return nn.Identity()
    if kind == "prelu":
        return nn.PReLU(channels)
    return {"relu": nn.ReLU, "relu6": nn.ReLU6}[kind]()
