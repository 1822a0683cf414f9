"""Grids of faces sampled during the training of the denoiser, with the mean cosine at each m."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cemiface.diffusion.sampler import ddim
from cemiface.diffusion.schedule import Schedule
from cemiface.pixels import to_bytes, to_unit_range
from cemiface.recognition.nets import Embedder
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion
from jobs.training.metrics import Metrics
from shards.embeddings.mapped_rows import MappedRows
from shards.images.jpeg import encode_jpeg
from shards.tars.shard_set import ShardSet
from slurm.files import publish

PEOPLE, VALUES, STEPS = 8, 5, 20


class SampleGrids:
    """A grid has a row per identity: the real face, then samples with m rising from left to right.

    Identities and noise are the same in every grid. The grids are private, as they show real faces.
    """

    def __init__(self, run: Run, *, shards: ShardSet, identity: MappedRows, schedule: Schedule, images: int) -> None:
        config = run.section(TrainDiffusion)
        self.folder = run.stage_folder("train-diffusion").output("samples")
        rows = np.linspace(0, len(shards) - 1, PEOPLE).astype(int).tolist()
        self.real_faces = np.stack([shards.rgb(row) for row in rows])
        self.identity = torch.from_numpy(identity[np.array(rows)]).repeat_interleave(VALUES, dim=0)
        self.values = np.linspace(config.similarity.low, config.similarity.high, VALUES).round(3).tolist()
        self.m = torch.tensor(self.values * PEOPLE, dtype=torch.float32)
        size = config.denoiser.image_size
        generator = torch.Generator().manual_seed(derive(run.seed, "sample grid"))
        noise = torch.randn((PEOPLE, 3, size, size), generator=generator)
        self.noise = noise.repeat_interleave(VALUES, dim=0)  # along a row only m changes
        self.schedule, self.first_images = schedule, images
        self._metrics: Metrics | None = None

    def write(self, denoiser: nn.Module, *, embedder: Embedder, images: int) -> None:
        """Write `samples/<images>.jpg`, and a line of mean cosines by m to `samples/cosines.jsonl`."""
        device = self.schedule.alpha_bar.device
        identity, m = self.identity.to(device), self.m.to(device)

        def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = denoiser(x, t, identity, m, None)
            return output

        faces = to_bytes(ddim(predict, noise=self.noise.to(device), schedule=self.schedule, steps=STEPS))
        embedded = embedder(to_unit_range(faces, device=device))
        cosines = torch.nn.functional.cosine_similarity(embedded, identity).reshape(PEOPLE, VALUES).mean(dim=0)
        rows = faces.reshape(PEOPLE, VALUES, *faces.shape[1:])
        grid = np.concatenate([self.real_faces[:, None], rows], axis=1)
        high, wide = grid.shape[0] * grid.shape[2], grid.shape[1] * grid.shape[3]
        picture = grid.transpose(0, 2, 1, 3, 4).reshape(high, wide, 3)
        publish(self.folder / f"{images:012d}.jpg", encode_jpeg(picture, quality=95), replace=True)
        self._metrics = self._metrics or Metrics(self.folder / "cosines.jsonl", images=self.first_images)
        means = [round(cosine, 4) for cosine in cosines.tolist()]
        self._metrics.write({"images": images, **{f"m {m}": mean for m, mean in zip(self.values, means, strict=True)}})
