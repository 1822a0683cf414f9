"""Sheets of generated faces, and their Fréchet distance to the real ones, while a GAN is trained."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cemiface.gandiff.generator import StyleGenerator, latent, truncated
from cemiface.gandiff.nets import Generator
from cemiface.measures.set_metrics import Moments, frechet_distance, moments
from cemiface.pixels import to_bytes, to_unit_range
from cemiface.recognition.verification import unit_rows
from jobs.frame.products import MERGED
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.train_gan.plan import TrainGan
from jobs.stages.shared.embedding import load_embedder
from jobs.training.metrics import Metrics
from jobs.training.step_monitor import crossed
from shards.embeddings.embeddings import open_merged
from shards.images.jpeg import encode_jpeg
from slurm.files import publish

ROWS, COLUMNS = 8, 8
PSI = (1.0, 0.7)  # truncations of the sheets
MOST_REAL = 50_000  # real faces that the distance is measured to
BATCH = 64


class Samples:
    """What is made of the averaged generator on a schedule, always from the same latents."""

    def __init__(self, run: Run, rank: Rank, *, device: torch.device, images: int) -> None:
        self.rank, self.config = rank, run.section(TrainGan)
        self.embedder = load_embedder(run, device=device)
        self.real = open_merged(run.stage_folder("embed").output(MERGED))
        self.seed = derive(run.seed, "gan samples")
        self.folder = rank.folder.output("samples")
        self.distance: dict[str, float] = {}  # the last measurement
        self._real_moments: Moments | None = None
        self._first_images = images
        self._metrics: Metrics | None = None

    def take(self, averaged: nn.Module, *, images: int, total: int) -> bool:
        """Make what is due after `images` images, and everything at the end; returns whether anything was."""
        batch, last = self.config.batch, images == total
        sheet = last or crossed(images, batch, every=self.config.sample_images)
        measured = last or crossed(images, batch, every=self.config.frechet_images)
        if sheet or measured:
            assert isinstance(averaged, Generator)
            averaged.set_w_mean()
            if sheet:
                self.write_sheets(averaged, images=images)
            if measured:
                self.distance = self.measure(averaged, images=images, count=self.config.frechet_samples)
        return sheet or measured

    def write_sheets(self, generator: StyleGenerator, *, images: int) -> None:
        """Write `samples/<images>-<psi>.jpg`: 64 faces, the same at each truncation and each time."""
        for psi in PSI:
            faces = self._faces(generator, range(ROWS * COLUMNS), psi=psi)
            size = faces.shape[1]
            sheet = faces.reshape(ROWS, COLUMNS, size, size, 3).transpose(0, 2, 1, 3, 4)
            picture = np.ascontiguousarray(sheet.reshape(ROWS * size, COLUMNS * size, 3))
            publish(self.folder / f"{images:012d}-{psi:.1f}.jpg", encode_jpeg(picture, quality=95), replace=True)

    def measure(self, generator: StyleGenerator, *, images: int, count: int) -> dict[str, float]:
        """Append a line to `samples/frechet.jsonl`, under E_id on vectors of unit length, without truncation.

        `frechet`: the distance to the real faces and their mirror images. `cosine`: the mean cosine between two
        generated faces; it rises where the generator covers a part of the faces only. `cosine_real`: between real ones.
        """
        found = []
        for start in range(0, count, BATCH):
            faces = self._faces(generator, range(start, min(start + BATCH, count)), psi=1.0)
            with torch.inference_mode():
                x = to_unit_range(faces, device=generator.w_mean.device)
                found.append(self.embedder(x).float().cpu().numpy())
            self.rank.heartbeat.update(images=self.rank.images, note="measuring the Fréchet distance")
        features = unit_rows(np.concatenate(found))
        real = self._real_moments = self._real_moments or moments(self._real_features())
        values = {
            "frechet": frechet_distance(moments(features), real),
            "cosine": (np.square(features.sum(0)).sum().item() - count) / (count * (count - 1)),
            "cosine_real": float(np.square(real[0]).sum()),
        }
        values = {name: float(f"{value:.6g}") for name, value in values.items()}
        self._metrics = self._metrics or Metrics(self.folder / "frechet.jsonl", images=self._first_images)
        self._metrics.write({"images": images, **values, "samples": count})
        return values

    def _faces(self, generator: StyleGenerator, numbers: range, *, psi: float) -> np.ndarray:
        """uint8 (N, S, S, 3) of latents by number."""
        seeds = [derive(self.seed, "latent", number) for number in numbers]
        z = torch.stack([latent(seed, generator.z_width) for seed in seeds]).to(generator.w_mean.device)
        with torch.inference_mode():
            w = truncated(generator.mapping(z), generator.w_mean, psi)
            return to_bytes(generator.synthesis(w))

    def _real_features(self) -> np.ndarray:
        """Unit embeddings of real faces and their mirror images."""
        count = len(self.real.keys)
        draw = np.random.default_rng(derive(self.rank.run.seed, "frechet reference"))
        rows = np.sort(draw.permutation(count)[: MOST_REAL // 2])
        return unit_rows(np.concatenate([self.real.features[rows], self.real.flipped[rows]]))
