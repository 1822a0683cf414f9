"""Sampling faces with the trained denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from cemiface.diffusion.sampler import adams, ddim
from cemiface.diffusion.schedule import Schedule
from cemiface.pixels import to_bytes
from cemiface.semihard.denoiser import load_denoiser
from jobs.frame.run import Run
from jobs.methods.cemiface.sampling import SamplingConfig
from jobs.methods.cemiface.train_diffusion.plan import DENOISER
from jobs.training.device import autocast, tune


class FaceSampler:
    """The trained denoiser on one device, with a solver."""

    def __init__(self, run: Run, config: SamplingConfig, *, device: torch.device) -> None:
        self.config, self.device = config, device
        self.denoiser, diffusion = load_denoiser(run.stage_folder("train-diffusion").output(DENOISER))
        self.schedule = Schedule(diffusion, device=device)
        self.size, self.embedding = self.denoiser.config.image_size, self.denoiser.config.embedding
        tune(self.denoiser.to(device), channels_last=config.channels_last, compiled=config.compile, graphs=True)

    def faces(
        self,
        seeds: Sequence[int],
        *,
        on_step: Callable[[int], None],
        identity: torch.Tensor | None = None,
        m: Sequence[float] | None = None,
    ) -> np.ndarray:
        """Sample uint8 faces (N, S, S, 3), one per seed.

        Face i depends on seeds[i], identity[i] and m[i] alone. Without identity (N, E) and m (N,) the samples are
        unconditional. `on_step(step)` is called after each step of the solver and may raise to stop.
        """
        config, count = self.config, len(seeds)
        # A compiled net takes one batch shape only: copies of the last row fill up a smaller batch.
        rows = list(range(count)) + [count - 1] * (config.batch - count if config.compile else 0)
        generators = [torch.Generator().manual_seed(seeds[row]) for row in rows]
        noise = torch.stack([torch.randn((3, self.size, self.size), generator=generator) for generator in generators])
        null = None if identity is not None else torch.ones(len(rows), dtype=torch.bool, device=self.device)
        identity_rows = (torch.zeros(count, self.embedding) if identity is None else identity)[rows].to(self.device)
        m_rows = torch.tensor([m[row] if m else 0.0 for row in rows], device=self.device)

        def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.denoiser(x, t, identity_rows, m_rows, null)
            return output

        solve = self._solver(generators)
        with autocast(self.device, config.precision):
            images = solve(
                predict, noise=noise.to(self.device), schedule=self.schedule, steps=config.steps, on_step=on_step
            )
        return to_bytes(images[:count])

    def _solver(self, generators: Sequence[torch.Generator]) -> Callable[..., torch.Tensor]:
        """The configured solver; the generators draw the fresh noise of each image where eta is above 0."""
        config = self.config
        if config.solver == "adams":
            return partial(adams, spacing=config.spacing or "mixed")
        return partial(
            ddim,
            eta=config.eta,
            spacing=config.spacing or "leading",
            rederive_noise=config.rederive_noise,
            generators=generators,
        )
