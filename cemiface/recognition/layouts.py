"""Published weights by the names of their tensors: which net they are, and the names this project gives the same parts.

Two layouts: arcface_torch's of insightface, which is ours, and the one of AdaFace's repository (with its prefixes and
its head). Their channel order is nowhere in the file, so it is asked for and never guessed.
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
from cemiface.recognition.iresnet import TINY_UNITS, UNITS, WIDTHS

Tensors = Mapping[str, Tensor]

PREFIXES = ("module.", "model.", "backbone.")  # of wrappers around the net, one inside the other

STEM = {"input_layer.0.": "conv1.", "input_layer.1.": "bn1.", "input_layer.2.": "prelu."}

TOP = {"output_layer.0.": "bn2.", "output_layer.3.": "fc.", "output_layer.4.": "features."}

# AdaFace's residual branch by position, and its shortcut where that is a convolution.
BRANCH = {"res_layer.0.": "bn1.", "res_layer.1.": "conv1.", "res_layer.2.": "bn2.", "res_layer.3.": "prelu.",
          "res_layer.4.": "conv2.", "res_layer.5.": "bn3.", "res_layer.se_block.": "se.",
          "shortcut_layer.0.": "downsample.0.", "shortcut_layer.1.": "downsample.1."}  # fmt: skip


def recognize(
    tensors: Tensors, *, color: Literal["RGB", "BGR"] | None, path: str | Path
) -> tuple[RecognitionConfig, dict[str, Tensor]]:
    """The net these tensors are of, and they under our names.

    Raises:
        ModelError: neither layout, none of the nets there are, or nobody says the channel order.
    """
    named = _without_prefixes(tensors)
    pooled = any(name.startswith("body.") for name in named)
    if pooled:
        named = _from_adaface(named, path=path)
    if "fc.weight" not in named or "conv1.weight" not in named:
        raise ModelError(
            f"weights {path}: does not say which net it is, and its names are neither insightface's nor AdaFace's: "
            f"{', '.join(list(named)[:5])}; give net, embedding and image_size beside it"
        )
    net, units = _net_of(named, path=path)
    embedding, width = named["fc.weight"].shape
    side = math.isqrt(width // named["bn2.weight"].shape[0])
    if color is None:
        raise ModelError(
            f"weights {path}: a {net} of {embedding} dimensions that does not say its color order, and a wrong one "
            "passes silently; give color: RGB (insightface's) or BGR (AdaFace's)"
        )
    config = RecognitionConfig(
        net=net,
        embedding=embedding,
        image_size=side * 2 ** len(units),
        color=color,
        shortcut="pool" if pooled else "conv",
    )
    return config, named


def _without_prefixes(tensors: Tensors) -> dict[str, Tensor]:
    """The backbone's tensors, where wrappers and a training head are around it."""
    named = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    for prefix in PREFIXES * 2:
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
            named = {name: tensor for name, tensor in named.items() if not name.startswith("head.")}
    return named


def _net_of(named: Tensors, *, path: str | Path) -> tuple[RecognitionNet, tuple[int, ...]]:
    blocks = {(int(found[1]), int(found[2])) for name in named if (found := re.match(r"layer(\d+)\.(\d+)\.", name))}
    stages = range(1, max((stage for stage, _ in blocks), default=0) + 1)
    units = tuple(sum(stage == own for own, _ in blocks) for stage in stages)
    if units == TINY_UNITS:
        return "ir_tiny", units
    squeeze = "layer1.0.se.fc1.weight" in named
    fitting = [net for net, counts in UNITS.items() if counts == units and net.startswith("irse") == squeeze]
    if not fitting:
        known = ", ".join(f"{net} {counts}" for net, counts in UNITS.items())
        raise ModelError(f"weights {path}: got units {units}{' with squeeze' if squeeze else ''}; allowed: {known}")
    return fitting[0], units  # type: ignore[return-value]  # the names of UNITS are such names


def _from_adaface(named: Tensors, *, path: str | Path) -> dict[str, Tensor]:
    """AdaFace's one long body as layers, a new one where the width grows; the first unit's shortcut is a pooling."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in named.items():
        for old, new in (STEM | TOP).items():
            if name.startswith(old):
                renamed[new + name.removeprefix(old)] = tensor
    count = 1 + max(int(name.split(".")[1]) for name in named if name.startswith("body."))
    stage, place = 0, 0
    for index in range(count):
        own = {name: tensor for name, tensor in named.items() if name.startswith(f"body.{index}.")}
        try:
            width = own[f"body.{index}.res_layer.4.weight"].shape[0]
        except KeyError:
            raise ModelError(
                f"weights {path}: body.{index} has no res_layer.4.weight; allowed: AdaFace's units of "
                "norm, convolution, norm, PReLU, convolution, norm"
            ) from None
        stage, place = (stage, place + 1) if stage and width == WIDTHS[stage - 1] else (stage + 1, 0)
        for name, tensor in own.items():
            part = name.removeprefix(f"body.{index}.")
            for old, new in BRANCH.items():
                if part.startswith(old):
                    renamed[f"layer{stage}.{place}.{new}{part.removeprefix(old)}"] = tensor
    if "features.running_mean" in renamed:  # its last norm has no scale and no shift
        mean = renamed["features.running_mean"]
        renamed.setdefault("features.weight", torch.ones_like(mean))
        renamed.setdefault("features.bias", torch.zeros_like(mean))
    return renamed
