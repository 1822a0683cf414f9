"""Fields and cost of sampling faces from the trained denoiser, which three stages share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from jobs.frame.run import Run
from jobs.frame.stage import Cost
from jobs.frame.stage_config import Precision, StageConfig, operational
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion

BYTES_PER_PIXEL = 0.9  # of a JPEG of a face at quality 95, 4:4:4, with its record: 11 kB at 112 px


class SamplingConfig(StageConfig):
    """How faces are sampled. Every field may change single bits of the images, unless it is operational."""

    solver: Literal["ddim", "adams"] = Field(
        "ddim",
        description=(
            "How the diffusion path is followed: ddim, as in the paper (appendix A.1), or adams, a multistep "
            "method that is nearer to the exact path in half the steps."
        ),
    )
    steps: int = Field(
        20,
        ge=1,
        le=1000,
        description=(
            "Steps of the solver, 1 to 1000; time grows in proportion. The default is the paper's (appendix "
            "A.1); adams needs about 10."
        ),
    )
    eta: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "Fresh noise per step, 0 to 1: 0 is DDIM, 1 is DDPM. The paper does not state it; DCFace's code "
            "has 1. adams allows 0 only."
        ),
    )
    spacing: Literal["leading", "trailing", "mixed"] | None = Field(
        None,
        description=(
            "Which time steps are taken of T = 1000: leading (DCFace, 950 to 0 with 20 steps) leaves out the "
            "noisiest; trailing starts there (999 to 49); mixed goes from the noisiest to the least noisy. "
            "null: leading for ddim, mixed for adams."
        ),
    )
    rederive_noise: bool = Field(
        True,
        description=(
            "For ddim: whether the noise is computed again after the predicted image was clipped, as adams "
            "always does. DCFace does not."
        ),
    )
    quality: int = Field(
        95,
        ge=1,
        le=100,
        description="JPEG quality of the stored faces, 1 to 100. At 95 a face of 112 px takes about 11 kB.",
    )
    batch: int = Field(
        64,
        ge=1,
        description=(
            "Images sampled at once by each rank. More needs more memory and is faster on GPUs; another batch "
            "size may round differently."
        ),
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the sampling: auto is bf16 on GPUs, and fp32 on CPUs, as few are faster in bf16.",
    )
    channels_last: bool = Field(
        True,
        description="Whether tensors have the channels-last memory layout, which is faster and may round differently.",
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description=(
            "Throughput of one GPU, which `cemiface plan` estimates GPU hours from; the stage's summary.json "
            "has the measured one. null: no estimate."
        ),
        json_schema_extra=operational(),
    )
    compile: bool = Field(
        False,
        description=(
            "Whether torch.compile is used, with CUDA graphs on GPUs. It costs minutes at the start of each "
            "rank, pays off in long jobs, and may round differently."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> SamplingConfig:
        if self.solver == "adams" and self.eta > 0:
            raise ValueError(f"eta: got {self.eta} with solver: adams; allowed: 0, or solver: ddim")
        return self

    def sampling(self) -> str:
        """One line of text with the fields that change the images."""
        spacing = self.spacing or ("leading" if self.solver == "ddim" else "mixed")
        path = ", noise kept" if self.solver == "ddim" and not self.rederive_noise else ""
        return f"{self.solver}, {self.steps} steps, eta {self.eta}, {spacing}{path}, quality {self.quality}"


def sampling_cost(run: Run, config: SamplingConfig, *, images: int, stored: int | None = None) -> Cost:
    """The cost of sampling `images` images and storing `stored` of them (None: all)."""
    training = run.find(TrainDiffusion)
    pixels = training.denoiser.image_size**2 if training else 0
    rate = config.images_per_second
    return Cost(
        gpu_hours=images / rate / 3600 if rate else None,
        disk_bytes=int((images if stored is None else stored) * pixels * BYTES_PER_PIXEL),
    )
