"""Face recognition nets by name, their weights files, and the frozen embedder that the method calls E_id."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.head import NORMALIZATION, check_inputs, stored_config
from cemiface.recognition.iresnet import BLOCKS, IResNet, ir_tiny
from cemiface.recognition.layouts import recognize
from cemiface.recognition.mobilefacenet import FoldedMobileFaceNet, MobileFaceNet
from cemiface.weights import built, read_weights, weights_bytes


def build_recognition(config: RecognitionConfig) -> nn.Module:
    """The untrained net: RGB (N, 3, S, S) in [-1, 1] at config.image_size to (N, embedding), not normalized."""
    size, embedding = config.image_size, config.embedding
    if config.net == "mobilefacenet_folded":
        assert config.folded is not None
        return FoldedMobileFaceNet(config.folded)
    if config.net == "mobilefacenet":
        return MobileFaceNet(embedding=embedding, last=(size // 16, size // 16))
    pooled = config.shortcut == "pool"
    if config.net == "ir_tiny":
        return ir_tiny(image_size=size, embedding=embedding, pooled=pooled)
    squeeze = config.net.startswith("irse")
    return IResNet(image_size=size, embedding=embedding, blocks=BLOCKS[config.net], squeeze=squeeze, pooled=pooled)


class Embedder(nn.Module):
    """A frozen recognition net for RGB images in [-1, 1] of any square size: E_id of the paper.

    Holds a copy of the net, always in eval mode and without weight gradients; the gradient to the images is kept.
    """

    def __init__(self, net: nn.Module, config: RecognitionConfig) -> None:
        super().__init__()
        self.net = fold_norms(copy.deepcopy(net).eval()).requires_grad_(False)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs
        self.config = config
        self.eval()

    @property
    def embedding(self) -> int:
        """Width of the embedding."""
        return self.config.embedding

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (N, embedding), not normalized, of images (N, 3, S, S)."""
        if x.shape[-1] != self.config.image_size:
            x = resize(x, size=self.config.image_size)
        if self.config.color == "BGR":
            x = x.flip(1)
        embeddings: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return embeddings

    def train(self, mode: bool = True) -> Embedder:
        """Stays in eval mode: an enclosing module's train() must not move the batch norm statistics."""
        return super().train(False)


def fold_norms(net: nn.Module) -> nn.Module:
    """A net in eval mode with its batch norms folded, in place, into the convolutions before them.

    The FOLDS of its modules list them. The result is the same up to rounding and saves a pass over memory.
    """
    for module in net.modules():
        for conv_name, norm_name in getattr(module, "FOLDS", ()):
            parent, _, child = norm_name.rpartition(".")
            holder = module.get_submodule(parent)
            norm = getattr(holder, child, None)
            if isinstance(norm, nn.BatchNorm2d):
                conv = module.get_submodule(conv_name)
                assert isinstance(conv, nn.Conv2d)
                folded = fuse_conv_bn_eval(conv, norm)
                conv.weight, conv.bias = folded.weight, folded.bias
                setattr(holder, child, nn.Identity())
    return net


def resize(x: Tensor, *, size: int) -> Tensor:
    """Square images (N, C, S, S) at another size: bicubic, antialiased when they shrink; not clipped.

    As two matrix products, which equal the bicubic kernel and whose gradient is the same on every run: the kernel's
    own gradient on CUDA adds up in changing order.
    """
    with torch.autocast(x.device.type, enabled=False):  # half precision would round the pixels
        eye = torch.eye(x.shape[-1], device=x.device)[None, None]
        matrix = F.interpolate(eye, size=(size, x.shape[-1]), mode="bicubic", antialias=True, align_corners=False)
        matrix = matrix[0, 0].to(x.dtype)
        return matrix @ x @ matrix.T


def load_recognition(
    path: str | Path, *, config: RecognitionConfig | None = None, color: Literal["RGB", "BGR"] | None = None
) -> Embedder:
    """The frozen embedder of a weights file: safetensors, or a .pt, .pth or .ckpt state dict.

    The net is that of `config`, else of the file's metadata, else of the names of its tensors; the last needs `color`.
    Raises ModelError for a file that is missing, text, partly written, would run code, holds another architecture, or
    has another color order or normalization.
    """
    tensors, metadata = read_weights(path)
    if config is None and "config" not in metadata:
        config, tensors = recognize(tensors, color=color or metadata.get("color"), path=path)  # type: ignore[arg-type]
    stored = config or stored_config(metadata, path=path)
    check_inputs(stored, metadata=metadata, color=color, path=path)
    return Embedder(built(lambda: build_recognition(stored), tensors, path=path), stored)


def recognition_bytes(net: nn.Module, config: RecognitionConfig, *, lineage: str = "") -> bytes:
    """A safetensors file that names its net, so that `load_recognition` needs no config.

    Args:
        lineage: see `weights_bytes`.
    """
    metadata = {"config": config.model_dump_json(), "color": config.color, "normalization": NORMALIZATION}
    return weights_bytes(net, metadata=metadata, lineage=lineage)
