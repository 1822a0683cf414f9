"""What a user sets about the personalization of a base. Importing this module does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from cemiface.diffusion.cost import UNetCost
from cemiface.values import FrozenModel, require


class LoraConfig(FrozenModel):
    """Low-rank branches (Hu et al. 2021, arXiv 2106.09685)."""

    rank: PositiveInt = Field(
        8,
        le=1024,
        description=(
            "Rank of the branches. Size and gradients grow with it: 8 on all layers of small32 are 0.4 million numbers "
            "per identity. ID-Booth takes 4 on Stable Diffusion's attention."
        ),
    )
    alpha: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The branches are multiplied by alpha / rank. null: alpha is the rank."
    )
    layers: Literal["all", "attention"] = Field(
        "all",
        description=(
            "Which layers get a branch: all convolutions and the projections of attention, or attention alone, as is "
            "usual for Stable Diffusion; the small embedded base needs all."
        ),
    )

    @property
    def scale(self) -> float:
        """What the output of a branch is multiplied by."""
        return (self.alpha or self.rank) / self.rank


class PersonalConfig(FrozenModel):
    """How a base learns an identity. The paper names DreamBooth and states no setting; the defaults are measured."""

    method: Literal["lora", "full", "token"] = Field(
        "lora",
        description=(
            "What is trained per identity: lora, low-rank branches and the identity's vector; full, all weights, which "
            "stores a net per identity; token, the vector alone (textual inversion), which learns little."
        ),
    )
    lora: LoraConfig = Field(LoraConfig(), description="The branches of method lora.")
    steps: PositiveInt = Field(
        150,
        description=(
            "Steps per identity. On the embedded base at 32 px identity stops growing at about 150 steps of batch 8."
        ),
    )
    batch: PositiveInt = Field(8, description="Noised portraits of each identity per step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        8e-3,
        description=(
            "Learning rate of AdamW at the start; it falls to 0 along a cosine. Without the fall the identity is lost "
            "again. Method full needs about a hundredth."
        ),
    )
    token_learning_rate: Annotated[float, Field(gt=0)] = Field(
        8e-3, description="Learning rate of the identity's vector, along the same cosine."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="Weight decay of AdamW; not of the vector.")
    gradient_clipping: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Largest norm of an identity's gradient; each identity is clipped by itself."
    )
    prior_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description=(
            "Weight of prior preservation (DreamBooth, equation 2): the loss on pictures by the base itself of the "
            "identity's demographic group, which keeps the adapter from changing other people. ID-Booth takes 1. "
            "Above 0 it costs as many pictures per step again."
        ),
    )
    class_images: PositiveInt = Field(
        32, description="Class pictures of each demographic group, for prior preservation."
    )
    held_out: int = Field(
        1,
        ge=0,
        description=(
            "Portraits of each identity, the last ones, that are not trained on. Early stop compares with them. "
            "0: no early stop."
        ),
    )
    check_steps: PositiveInt = Field(25, description="Steps between two measurements for early stop.")
    check_images: PositiveInt = Field(4, description="Pictures of an identity that a measurement samples.")
    check_sampling_steps: PositiveInt = Field(8, description="Evaluations of the base per picture of a measurement.")
    patience: PositiveInt = Field(
        3, description="Measurements without a higher cosine after which an identity is finished."
    )
    max_copying: Annotated[float, Field(ge=0)] = Field(
        0.05,
        description=(
            "How much nearer pictures may be to a single training portrait than to the center of the portraits, in "
            "cosine. What lies above copies portraits; such a state is not kept."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            self.held_out == 0 or self.check_steps <= self.steps,
            "check_steps",
            self.check_steps,
            f"at most steps, {self.steps}; or held_out: 0",
        )
        return self


def adapter_numbers(config: PersonalConfig, base: UNetCost, *, width: int) -> int:
    """How many numbers the adapter of one identity holds, its vector of `width` included."""
    if config.method == "full":
        return base.parameters + base.adapter_parameters + width
    if config.method == "token":
        return width
    layers = [layer for layer in base.layers if layer.attends or config.lora.layers == "all"]
    return sum(config.lora.rank * (layer.inputs + layer.outputs) for layer in layers) + width


def evaluations(config: PersonalConfig) -> int:
    """Forward passes of one image that personalizing one identity costs; a training sample counts as three.

    Backward passes cost twice the forward pass where weights are trained; here it is the branches' and the gradient of
    the activations. Class pictures, which a rank samples once per demographic group, are not counted.
    """
    samples = config.steps * config.batch * (2 if config.prior_weight else 1)
    measurements = 1 + -(-config.steps // config.check_steps) if config.held_out else 0
    return 3 * samples + measurements * config.check_images * config.check_sampling_steps
