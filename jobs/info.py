"""`cemiface info`: what a config means, in numbers, without running anything."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from cemiface.config import RecognitionConfig
from cemiface.cost import denoiser_cost
from jobs.embedder import TRAINED_HERE
from jobs.stage import Run

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
    found: dict[str, Any] = {"name": run.config.name}
    training, identities, generate = (run.section(name) for name in ("train-diffusion", "identities", "generate"))
    if training is not None:
        here = run.section(TRAINED_HERE)
        width = {"embedding": here.recognition.embedding} if here is not None and run.asks_for(TRAINED_HERE) else {}
        cost = denoiser_cost(training.denoiser.model_copy(update=width))
        found["denoiser"] = {
            "parameters": cost.parameters,
            "adapter_parameters": cost.adapter_parameters,
            "gmacs": round(cost.macs / GIGA, 3),
            "image_size": training.denoiser.image_size,
            "training_images": training.images,
        }
    recognition = run.section("train-recognition") or run.section(TRAINED_HERE)
    if recognition is not None:
        found["recognition"] = recognition_cost(recognition.recognition)
    if identities is not None and generate is not None:
        images = (run.stages["generate"].expected_images(run) or 0) + identities.count * generate.inquiry_copies
        found |= {"identities": identities.count, "images": images, "shards": len(run.plan("generate"))}
    return found


def recognition_cost(config: RecognitionConfig) -> dict[str, Any]:
    """Parameters and multiply-accumulates of a recognition net, counted on the net itself."""
    import torch

    from cemiface.recognition import build_recognition

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
