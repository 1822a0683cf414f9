"""Sampling faces from the trained denoiser: the fields and the sampler that three stages share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from jobs.frame.run import Run
from jobs.frame.stage import Cost
from jobs.frame.stage_config import Precision, StageConfig, operational
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion

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
    images_per_second: float | None = Field(
        None, gt=0, json_schema_extra=operational()
    )  # of one GPU, for the dry run's GPU hours
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
    training = run.find(TrainDiffusion)
    pixels = training.denoiser.image_size**2 if training else 0
    rate = config.images_per_second
    return Cost(
        gpu_hours=images / rate / 3600 if rate else None,
        disk_bytes=int((images if stored is None else stored) * pixels * BYTES_PER_PIXEL),
    )
