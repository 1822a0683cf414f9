"""`cemiface info`: what a config means, in numbers, without running anything."""

from __future__ import annotations

import json
from typing import Any

import torch
from rich.console import Console

from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import build_recognition
from jobs.frame.run import Run
from jobs.stages.train_recognition.plan import TrainEmbedder, TrainRecognition

GIGA = 1e9

NORMS = ("BatchNorm2d", "BatchNorm1d", "PReLU")  # the paper's log counts them, one per output


def show_info(run: Run, console: Console, *, as_json: bool) -> None:
    found = info(run)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for part, values in found.items():
        if isinstance(values, dict):
            console.print(f"[bold]{part}[/bold]")
            for name, value in values.items():
                console.print(f"  {name:<20} {_readable(value)}", highlight=False)
        else:
            console.print(f"{part:<22} {_readable(values)}", highlight=False)


def info(run: Run) -> dict[str, Any]:
    """The nets' sizes and costs, and how much is trained on and generated; parts the config does not ask for lack."""
    found: dict[str, Any] = {"name": run.config.name, **run.method.describe(run)}
    recognition = run.find(TrainRecognition) or run.find(TrainEmbedder)
    if recognition is not None:
        found["recognition"] = recognition_cost(recognition.recognition)
    return found


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


def _readable(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
