"""Published weights by the names of their tensors: which net they are, and the names this project gives the same parts.

Two layouts: arcface_torch's of insightface, which is ours, and the one of AdaFace's repository (with its prefixes and
its head). The file does not state the channel order, so the caller must give it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cemiface.errors import ModelError
from cemiface.recognition.config import RecognitionConfig, RecognitionNet
from cemiface.recognition.iresnet import BLOCKS, TINY_BLOCKS, WIDTHS
from cemiface.weights import MAX_PREFIXES, without_prefix

Tensors = Mapping[str, Tensor]

NUMBERED = re.compile(r"layer([0-9])\.([0-9]{1,3})\.")  # stage and block, in insightface's names

MAX_BLOCKS = 1000

STEM = {"input_layer.0.": "conv1.", "input_layer.1.": "bn1.", "input_layer.2.": "prelu."}

TOP = {"output_layer.0.": "bn2.", "output_layer.3.": "fc.", "output_layer.4.": "features."}

# AdaFace's residual branch by position, and its shortcut where that is a convolution.
BRANCH = {"res_layer.0.": "bn1.", "res_layer.1.": "conv1.", "res_layer.2.": "bn2.", "res_layer.3.": "prelu.",
          "res_layer.4.": "conv2.", "res_layer.5.": "bn3.", "res_layer.se_block.": "se.",
          "shortcut_layer.0.": "downsample.0.", "shortcut_layer.1.": "downsample.1."}  # fmt: skip


def recognize(
    tensors: Tensors, *, color: Literal["RGB", "BGR"] | None, path: str | Path
) -> tuple[RecognitionConfig, dict[str, Tensor]]:
    """The net that these tensors belong to, and the tensors under our names.

    Raises:
        ModelError: neither layout, an unknown net, or no channel order given.
    """
    try:
        return _recognized(tensors, color=color, path=path)
    except ModelError:
        raise
    except (ValueError, LookupError, ArithmeticError) as error:  # names and shapes that no layout has
        reason = ascii(str(error).partition("\n")[0])[1:-1]
        raise ModelError(f"weights {path}: neither insightface's nor AdaFace's layout ({reason})") from error


def _recognized(
    tensors: Tensors, *, color: Literal["RGB", "BGR"] | None, path: str | Path
) -> tuple[RecognitionConfig, dict[str, Tensor]]:
    named = _without_prefixes(tensors)
    pooled = any(name.startswith("body.") for name in named)
    if pooled:
        named = _from_adaface(named, path=path)
    if "fc.weight" not in named or "conv1.weight" not in named:
        raise ModelError(
            f"weights {path}: has no net in its metadata, and its names are neither insightface's nor AdaFace's: "
            f"{', '.join(list(named)[:5])}; give weights that one of the two published, or this suite wrote"
        )
    net, counts = _net_of(named, path=path)
    embedding, width = named["fc.weight"].shape
    side = math.isqrt(width // named["bn2.weight"].shape[0])
    if color is None:
        raise ModelError(
            f"weights {path}: a {net} of {embedding} dimensions without a color order, and a wrong one "
            "gives no error; give color: RGB (insightface's) or BGR (AdaFace's)"
        )
    config = RecognitionConfig(
        net=net,
        embedding=embedding,
        image_size=side * 2 ** len(counts),
        color=color,
        shortcut="pool" if pooled else "conv",
    )
    return config, named


def _without_prefixes(tensors: Tensors) -> dict[str, Tensor]:
    """The backbone's tensors, where wrappers and a training head are around it."""
    named = _without_head(tensors)
    for _ in range(MAX_PREFIXES):
        stripped = without_prefix(named)
        if stripped is None:
            break
        named = _without_head(stripped)
    return named


def _without_head(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}


def _net_of(named: Tensors, *, path: str | Path) -> tuple[RecognitionNet, tuple[int, ...]]:
    blocks = {(int(found[1]), int(found[2])) for name in named if (found := NUMBERED.match(name))}
    layers = range(1, max((layer for layer, _ in blocks), default=0) + 1)
    counts = tuple(sum(layer == own for own, _ in blocks) for layer in layers)
    if counts == TINY_BLOCKS:
        return "ir_tiny", counts
    squeeze = "layer1.0.se.fc1.weight" in named
    fitting = [net for net, known in BLOCKS.items() if known == counts and net.startswith("irse") == squeeze]
    if not fitting:
        allowed = ", ".join(f"{net} {known}" for net, known in BLOCKS.items())
        raise ModelError(f"weights {path}: got blocks {counts}{' with squeeze' if squeeze else ''}; allowed: {allowed}")
    return fitting[0], counts  # type: ignore[return-value]  # the names of BLOCKS are such names


def _from_adaface(named: Tensors, *, path: str | Path) -> dict[str, Tensor]:
    """AdaFace's one long body as layers, a new one where the width grows; the first block's shortcut is a pooling."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in named.items():
        for old, new in (STEM | TOP).items():
            if name.startswith(old):
                renamed[new + name.removeprefix(old)] = tensor
    count = 1 + max(int(name.split(".")[1][:4]) for name in named if name.startswith("body."))
    if count > MAX_BLOCKS:
        raise ModelError(f"weights {path}: got {count} blocks; allowed: {MAX_BLOCKS}")
    layer, place = 0, 0
    for index in range(count):
        own = {name: tensor for name, tensor in named.items() if name.startswith(f"body.{index}.")}
        try:
            width = own[f"body.{index}.res_layer.4.weight"].shape[0]
        except KeyError:
            raise ModelError(
                f"weights {path}: body.{index} has no res_layer.4.weight; allowed: AdaFace's blocks of "
                "norm, convolution, norm, PReLU, convolution, norm"
            ) from None
        layer, place = (layer, place + 1) if layer and width == WIDTHS[layer - 1] else (layer + 1, 0)
        for name, tensor in own.items():
            part = name.removeprefix(f"body.{index}.")
            for old, new in BRANCH.items():
                if part.startswith(old):
                    renamed[f"layer{layer}.{place}.{new}{part.removeprefix(old)}"] = tensor
    if "features.running_mean" in renamed:  # its last norm has no scale and no shift
        mean = renamed["features.running_mean"]
        renamed.setdefault("features.weight", torch.ones_like(mean))
        renamed.setdefault("features.bias", torch.zeros_like(mean))
    return renamed
