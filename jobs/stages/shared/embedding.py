"""E_id on a device, and embeddings of numbered images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cemiface.measures.inception import Inception
from cemiface.pixels import to_unit_range
from cemiface.recognition.nets import Embedder, load_recognition
from cemiface.weights import read_weights, share_weights
from jobs.frame.run import Run
from jobs.stages.shared.embedder import embedder_path
from slurm.files import sha256_of


class Images(Protocol):
    """Numbered images: a shard set, a subset of one, or images in memory."""

    def __len__(self) -> int: ...
    def rgb(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class NamedImages:
    """N images in memory, (H, W, 3) uint8 each, with their keys and identities."""

    keys: list[str]
    identities: list[str]
    images: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def rgb(self, index: int, /) -> np.ndarray:
        return self.images[index]


def embed(
    shards: Images,
    *,
    embedder: Embedder | Inception,
    batch: int,
    progress: Callable[[int], None],
    mirror: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, E) of images and of their mirror images, float32, not normalized.

    Without `mirror` the second array is empty, (0, E). `progress(n)` is called after every n images; it may raise.
    """
    device = next(embedder.parameters()).device
    plain, mirrored = [], []
    with torch.inference_mode():
        for first in range(0, len(shards), batch):
            rows = range(first, min(first + batch, len(shards)))
            images = np.stack([shards.rgb(row) for row in rows])
            x = to_unit_range(images, device=device)
            plain.append(_numpy(embedder(x)))
            if mirror:
                mirrored.append(_numpy(embedder(x.flip(3))))
            progress(len(rows))
    none = np.empty((0, embedder.embedding), np.float32)
    return np.concatenate(plain), np.concatenate(mirrored or [none])


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.float().cpu().numpy()
    return array


def load_embedder(run: Run, *, device: torch.device | str = "cpu") -> Embedder:
    color = run.config.embedder.color if run.config.embedder.weights else None
    return load_recognition(embedder_path(run), color=color).to(device)


def is_independent(run: Run, path: Path) -> bool:
    """Whether a recognition net, such as the audit's, is another one than E_id, which guided the generator.

    The file may differ where the net is the same: other metadata, names, format or precision.
    """
    own = embedder_path(run)
    if sha256_of(path) == sha256_of(own):
        return False
    return not share_weights(read_weights(path)[0], read_weights(own)[0])
