"""E_id, the frozen recognition net of the method: the user's weights, or the one this run trains on the real faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jobs.stage import PathText, Run, StageConfig
from slurm.files import sha256_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cemiface.recognition import Embedder

WEIGHTS = "recognition.safetensors"  # the output of both recognition stages
CLASSIFIER = "classifier.safetensors"  # of the one that trains E_id: a weight row per real identity
TRAINED_HERE = "train-embedder"


class EmbedderConfig(StageConfig):
    weights: PathText | None = None  # a recognition net to take as E_id; None: the stage train-embedder makes it
    color: Literal["RGB", "BGR"] | None = None  # of the net's images, for weights files that do not say it


def embedder_needs(run: Run) -> tuple[str, ...]:
    """The stage that trains E_id, unless the config brings its weights."""
    return () if run.config.embedder.weights else (TRAINED_HERE,)


def embedder_path(run: Run) -> Path:
    """The weights file of E_id.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    weights = run.config.embedder.weights
    if not weights:
        return run.stage_folder(TRAINED_HERE).output(WEIGHTS)
    return run.given_file("embedder.weights", weights, give="a recognition net's weights")


def embedder_files(run: Run) -> dict[str, str]:
    """What E_id is from outside of the run, for fingerprints: nothing where the run trains it."""
    if not run.config.embedder.weights:
        return {}
    found = {"embedder.weights": sha256_of(embedder_path(run))}
    return found | ({"embedder.color": run.config.embedder.color} if run.config.embedder.color else {})


def load_embedder(run: Run, *, device: torch.device | str = "cpu") -> Embedder:
    from cemiface.recognition import load_recognition

    color = run.config.embedder.color if run.config.embedder.weights else None
    return load_recognition(embedder_path(run), color=color).to(device)


def to_unit_range(images: np.ndarray, *, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1], as every net here takes it."""
    import torch

    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return tensor.float().div_(127.5).sub_(1.0)


def to_bytes(images: torch.Tensor) -> np.ndarray:
    """float (N, 3, H, W) in [-1, 1] to uint8 (N, H, W, 3); rounds to the nearest level."""
    levels = images.add(1.0).mul(127.5).round().clamp(0, 255)
    array: np.ndarray = levels.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return array
