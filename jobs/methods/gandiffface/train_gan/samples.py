"""Sheets of generated faces, and their Fréchet distance to the real ones, while a GAN is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from cemiface.gandiff.gan.generator import StyleGenerator, latent, truncated
from cemiface.gandiff.gan.nets import Generator
from cemiface.measures.set_metrics import Moments, frechet_distance, moments
from cemiface.pixels import to_bytes, to_unit_range
from cemiface.recognition.verification import unit_rows
from jobs.frame.metrics_file import read_metrics
from jobs.frame.products import MERGED
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.train_gan.plan import TrainGan
from jobs.stages.shared.embedding import load_embedder
from jobs.training.metrics import Metrics
from jobs.training.step_monitor import crossed
from jobs.training.world import World
from shards.embeddings.embeddings import open_merged
from shards.images.jpeg import encode_jpeg
from slurm.files import publish

ROWS, COLUMNS = 8, 8
PSI = (1.0, 0.7)  # truncations of the sheets
MOST_REAL = 50_000  # real faces that the distance is measured to
BATCH = 64
FRECHET = "frechet.jsonl"


class Samples:
    """What is made of the averaged generator on a schedule, always from the same latents.

    A generated face is nobody's, but a generator that has memorized shows real people, so the sheets are private.
    """

    def __init__(self, run: Run, rank: Rank, *, world: World, images: int) -> None:
        self.rank, self.world, self.config = rank, world, run.section(TrainGan)
        self.embedder = load_embedder(run, device=world.device)
        self.real = open_merged(run.stage_folder("embed").output(MERGED))
        self.seed, self.reference_seed = (derive(run.seed, name) for name in ("gan samples", "frechet reference"))
        self.folder = rank.folder.output("samples")
        self._real_moments: Moments | None = None
        self._metrics = Metrics(self.folder / FRECHET, images=images) if world.rank == 0 else None

    def take(self, averaged: nn.Module, *, images: int, total: int) -> bool:
        """Make what is due after `images` images, and everything at the end; returns whether anything was.

        All ranks must call it, as they share the work. If one of them is to stop, it leaves the distance out: the
        resumed training calls it again after the same images.
        """
        batch, last = self.config.batch, images == total
        sheet = last or crossed(images, batch, every=self.config.sample_images)
        measured = last or crossed(images, batch, every=self.config.frechet_images)
        if sheet or measured:
            assert isinstance(averaged, Generator)
            averaged.set_w_mean()
        if sheet and self.world.rank == 0:
            assert isinstance(averaged, Generator)
            self.write_sheets(averaged, images=images)
        if measured:
            assert isinstance(averaged, Generator)
            self.measure(averaged, images=images)
        return sheet or measured

    def last_distance(self) -> dict[str, float]:
        """The last measurement; none if there is none."""
        lines = read_metrics(self.folder / FRECHET)
        return {name: lines[-1][name] for name in ("frechet", "cosine", "cosine_real")} if lines else {}

    def write_sheets(self, generator: StyleGenerator, *, images: int) -> None:
        """Write `samples/<images>-<psi>.jpg`: 64 faces, the same at each truncation and each time."""
        for psi in PSI:
            faces = self._faces(generator, range(ROWS * COLUMNS), psi=psi)
            size = faces.shape[1]
            sheet = faces.reshape(ROWS, COLUMNS, size, size, 3).transpose(0, 2, 1, 3, 4)
            picture = np.ascontiguousarray(sheet.reshape(ROWS * size, COLUMNS * size, 3))
            publish(self.folder / f"{images:012d}-{psi:.1f}.jpg", encode_jpeg(picture, quality=95), replace=True)

    def measure(self, generator: StyleGenerator, *, images: int) -> None:
        """Append a line to `samples/frechet.jsonl`, under E_id on vectors of unit length, without truncation.

        `frechet`: the distance to the real faces and their mirror images. `cosine`: the mean cosine between two
        generated faces; it rises where the generator covers a part of the faces only. `cosine_real`: between real ones.
        """
        count = self.config.frechet_samples
        if self._is_measured(images):  # the training was interrupted since
            return
        features = self._features(generator, count=count)
        if features is None or self._metrics is None:
            return
        features = unit_rows(features)
        real = self._real_moments = self._real_moments or moments(self._real_features())
        values = {
            "frechet": frechet_distance(moments(features), real),
            "cosine": (np.square(features.sum(0)).sum().item() - count) / (count * (count - 1)),
            "cosine_real": float(np.square(real[0]).sum()),
        }
        values = {name: float(f"{value:.6g}") for name, value in values.items()}
        self._metrics.write({"images": images, **values, "samples": count})

    def _is_measured(self, images: int) -> bool:
        """Whether the file has a line of these images; rank 0 says so for all."""
        found = self.world.rank == 0 and any(line["images"] == images for line in read_metrics(self.folder / FRECHET))
        return bool(self.world.total(torch.tensor([float(found)], device=self.world.device)).item())

    def _features(self, generator: StyleGenerator, *, count: int) -> np.ndarray | None:
        """Embeddings (count, E) of generated faces, each rank making its share; None if a rank is to stop."""
        features = torch.zeros(count, self.embedder.embedding, device=self.world.device)
        own = range(self.world.rank, count, self.world.size)
        stopped = torch.zeros(1, device=self.world.device)
        for start in range(0, len(own), BATCH):
            if self.rank.stop.due():
                stopped += 1
                break
            numbers = own[start : start + BATCH]
            faces = to_unit_range(self._faces(generator, numbers, psi=1.0), device=self.world.device)
            with torch.inference_mode():
                features[list(numbers)] = self.embedder(faces).float()
            self.rank.heartbeat.update(images=self.rank.images, note="measuring the Fréchet distance")
        stop = bool(self.world.total(stopped).item())
        everything = self.world.total(features)
        return None if stop else everything.cpu().numpy()

    def _faces(self, generator: StyleGenerator, numbers: Sequence[int], *, psi: float) -> np.ndarray:
        """uint8 (N, S, S, 3) of latents by number."""
        seeds = [derive(self.seed, "latent", number) for number in numbers]
        z = torch.stack([latent(seed, generator.z_width) for seed in seeds]).to(generator.w_mean.device)
        with torch.inference_mode():
            w = truncated(generator.mapping(z), generator.w_mean, psi)
            return to_bytes(generator.synthesis(w))

    def _real_features(self) -> np.ndarray:
        """Unit embeddings of real faces and their mirror images."""
        count = len(self.real.keys)
        draw = np.random.default_rng(self.reference_seed)
        rows = np.sort(draw.permutation(count)[: MOST_REAL // 2])
        return unit_rows(np.concatenate([self.real.features[rows], self.real.flipped[rows]]))
