"""The improved residual nets of ArcFace (Deng et al. 2019, section 3.1): IR-18/50/100, IR-SE50, and a tiny one.

Parameter names are those of insightface's arcface_torch, so its published `backbone.pth` files load.
`pooled` shortcuts are those of AdaFace's nets, see `cemiface.recognition.layouts`.
"""

from __future__ import annotations

from torch import Tensor, nn

BLOCKS = {"ir18": (2, 2, 2, 2), "ir50": (3, 4, 14, 3), "irse50": (3, 4, 14, 3), "ir100": (3, 13, 30, 3)}

WIDTHS = (64, 128, 256, 512)

# For 32 px: 0.3 M parameters and the last linear layer, a minute of training on a CPU.
TINY_BLOCKS, TINY_WIDTHS = (1, 1, 1), (32, 64, 128)


class Squeeze(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): every channel scaled by a function of the whole image."""

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * scale.sigmoid()


class IRBlock(nn.Module):
    """BN-conv-BN-PReLU-conv-BN and a shortcut; the second convolution strides."""

    FOLDS = (("conv1", "bn2"), ("conv2", "bn3"), ("downsample.0", "downsample.1"))  # see `nets.fold_norms`

    def __init__(self, inputs: int, outputs: int, *, stride: int, squeeze: bool, pooled: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se = Squeeze(outputs) if squeeze else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if pooled and inputs == outputs:
            self.downsample = nn.MaxPool2d(1, stride)
        elif stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        shortcut: Tensor = self.downsample(x)
        branch: Tensor = self.se(self.bn3(self.conv2(h)))
        return shortcut + branch


class IResNet(nn.Module):
    """(N, 3, S, S) RGB in [-1, 1] to (N, embedding), not normalized; S a multiple of 2 ** len(blocks)."""

    FOLDS = (("conv1", "bn1"),)

    def __init__(
        self,
        *,
        image_size: int,
        embedding: int,
        blocks: tuple[int, ...],
        widths: tuple[int, ...] = WIDTHS,
        squeeze: bool = False,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        width = widths[0]
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.layers = [f"layer{index + 1}" for index in range(len(blocks))]
        for name, count, outputs in zip(self.layers, blocks, widths, strict=True):
            layer = [IRBlock(width, outputs, stride=2, squeeze=squeeze, pooled=pooled)]
            layer += [IRBlock(outputs, outputs, stride=1, squeeze=squeeze) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(*layer))
            width = outputs
        side = image_size // 2 ** len(blocks)
        self.bn2 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width * side * side, embedding)
        self.features = nn.BatchNorm1d(embedding)
        self.features.weight.requires_grad_(False)  # the margin heads normalize: a scale would have no effect
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)  # arcface_torch's, which its learning rate of 0.1 needs

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for name in self.layers:
            x = self.get_submodule(name)(x)
        embedding: Tensor = self.features(self.fc(self.bn2(x).flatten(1)).float())
        return embedding


def ir_tiny(*, image_size: int, embedding: int, pooled: bool = False) -> IResNet:
    """Three blocks, for demos at 32 px."""
    return IResNet(image_size=image_size, embedding=embedding, blocks=TINY_BLOCKS, widths=TINY_WIDTHS, pooled=pooled)
