"""Sampling faces from the trained denoiser: the fields and the sampler that three stages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from jobs.device import Precision
from jobs.stage import OPERATIONAL, Cost, Run, StageConfig

if TYPE_CHECKING:
    import numpy as np
    import torch

DENOISER = "denoiser.safetensors"  # the output of train-diffusion
BYTES_PER_PIXEL = 0.9  # of a JPEG of a face at quality 95, 4:4:4, with its record: 11 kB at 112 px


class SamplingConfig(StageConfig):
    """How faces are sampled; every field may change single bits of them and is part of what identifies a set."""

    solver: Literal["ddim", "adams"] = "ddim"  # adams: nearer to the exact path in half the steps
    steps: int = Field(20, ge=1, le=1000)
    eta: float = Field(0.0, ge=0, le=1)  # fresh noise per step: 0 is DDIM, 1 is DDPM
    spacing: Literal["leading", "trailing", "mixed"] | None = None  # None: leading for ddim, mixed for adams
    rederive_noise: bool = True  # ddim: after clipping the predicted image, as adams does by nature; DCFace does not
    quality: int = Field(95, ge=1, le=100)  # JPEG
    batch: int = Field(64, ge=1)  # images at once; another batch size may round differently
    precision: Precision = "auto"
    channels_last: bool = True
    images_per_second: float | None = Field(None, gt=0, **OPERATIONAL)  # of one GPU, for the dry run's GPU hours
    compile: bool = False  # torch.compile, with CUDA graphs on GPUs; minutes at start, for long jobs

    @model_validator(mode="after")
    def _check(self) -> SamplingConfig:
        if self.solver == "adams" and self.eta > 0:
            raise ValueError(f"eta: got {self.eta} with solver: adams; allowed: 0, or solver: ddim")
        return self

    def sampling(self) -> str:
        """The fields that images follow from, in one line."""
        spacing = self.spacing or ("leading" if self.solver == "ddim" else "mixed")
        path = ", noise kept" if self.solver == "ddim" and not self.rederive_noise else ""
        return f"{self.solver}, {self.steps} steps, eta {self.eta}, {spacing}{path}, quality {self.quality}"


def sampling_cost(run: Run, config: SamplingConfig, *, images: int, stored: int | None = None) -> Cost:
    """Of sampling so many images and storing them, or only `stored` of them."""
    training = run.section("train-diffusion")
    pixels = training.denoiser.image_size**2 if training else 0
    rate = config.images_per_second
    return Cost(
        gpu_hours=images / rate / 3600 if rate else None,
        disk_bytes=int((images if stored is None else stored) * pixels * BYTES_PER_PIXEL),
    )


class FaceSampler:
    """The trained denoiser, ready to make faces on one device."""

    def __init__(self, run: Run, config: SamplingConfig, *, device: torch.device) -> None:
        from cemiface.denoiser import load_denoiser
        from cemiface.diffusion import Schedule
        from jobs.device import tuned

        self.config, self.device = config, device
        self.denoiser, diffusion = load_denoiser(run.stage_folder("train-diffusion").output(DENOISER))
        self.schedule = Schedule(diffusion, device=device)
        self.size, self.embedding = self.denoiser.config.image_size, self.denoiser.config.embedding
        tuned(self.denoiser.to(device), channels_last=config.channels_last, compiled=config.compile, graphs=True)

    def faces(
        self,
        seeds: Sequence[int],
        *,
        on_step: Callable[[int], None],
        identity: torch.Tensor | None = None,
        m: Sequence[float] | None = None,
    ) -> np.ndarray:
        """uint8 faces (N, S, S, 3), one per seed; without identity (N, E) and m those of nobody in particular.

        Face i comes of seeds[i], identity[i] and m[i] alone. `on_step(step)` may raise to stop.
        """
        import torch

        from cemiface.sampler import adams, ddim
        from jobs.device import autocast
        from jobs.embedder import to_bytes

        config, count = self.config, len(seeds)
        # A compiled net has one batch shape: a smaller batch is filled up with copies of its last row.
        rows = list(range(count)) + [count - 1] * (config.batch - count if config.compile else 0)
        generators = [torch.Generator().manual_seed(seeds[row]) for row in rows]
        noise = torch.stack([torch.randn((3, self.size, self.size), generator=generator) for generator in generators])
        null = None if identity is not None else torch.ones(len(rows), dtype=torch.bool, device=self.device)
        given = torch.zeros(count, self.embedding) if identity is None else identity
        solve = (
            partial(adams, spacing=config.spacing or "mixed")
            if config.solver == "adams"
            else partial(
                ddim,
                eta=config.eta,
                spacing=config.spacing or "leading",
                rederive_noise=config.rederive_noise,
                generators=generators,
            )
        )
        with autocast(self.device, config.precision):
            images = solve(
                self.denoiser,
                noise=noise.to(self.device),
                identity=given[rows].to(self.device),
                m=torch.tensor([m[row] if m else 0.0 for row in rows], device=self.device),
                null=null,
                schedule=self.schedule,
                steps=config.steps,
                on_step=on_step,
            )
        return to_bytes(images[:count])
