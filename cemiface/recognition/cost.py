"""What a recognition net costs: parameters and multiply-accumulates, counted on the net itself."""

from __future__ import annotations

from typing import Any

import torch

from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import build_recognition

GIGA = 1e9
NORMS = ("BatchNorm2d", "BatchNorm1d", "PReLU")  # the paper's log counts them, one per output


def recognition_cost(config: RecognitionConfig) -> dict[str, Any]:
    """Parameters and multiply-accumulates of a recognition net, counted on the net itself."""
    with torch.device("meta"):
        net = build_recognition(config).eval()
        x = torch.empty(1, 3, config.image_size, config.image_size)
    macs = 0

    def count(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            macs += output.numel() * layer.weight[0].numel()
        elif type(layer).__name__ in NORMS:
            macs += output.numel()

    for layer in net.modules():
        layer.register_forward_hook(count)
    net(x)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {"net": config.net, "parameters": parameters, "gmacs": round(macs / GIGA, 3)}
