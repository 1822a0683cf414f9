"""What a Stable Diffusion base costs: TFLOP per evaluation, and A100 hours of a whole set. It imports no torch.

The operations are counted (`part_costs.py`); how many a GPU does per second is taken from published measurements. Text
encoders are left out: less than a fiftieth of the U-Net.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cemiface.gandiff.personal.config import PersonalConfig
from cemiface.gandiff.text.model_folder import ModelFolder
from cemiface.gandiff.text.part_costs import PartCost, unet_cost, vae_cost
from cemiface.gandiff.text.parts import UNetPart, VaePart

# Published for an A100, Stable Diffusion at 512 px in half precision, 16 images with guidance: 3.04 steps/s
# (diffusers' documentation, docs/source/en/optimization/torch2.0.md, table "A100 (batch size: 16)"; 3.83 compiled).
STEPS_PER_SECOND, STEPS_PER_SECOND_COMPILED = 3.04, 3.83
TFLOP_PER_STEP = 16 * 2 * 0.8033  # images, with and without the condition, TFLOP of an evaluation

# Assumed, not published: personalization reaches this share of the rate of sampling, several identities in a batch. The
# branches and the optimizer are many small operations.
SHARE_WHEN_TUNING = 0.7

SOURCE = (
    "A100 rate: 3.04 steps/s of 16 guided images by Stable Diffusion at 512 px, not compiled "
    "(diffusers' documentation, torch2.0.md); 70 % of it for personalization is an assumption"
)


@dataclass(frozen=True, kw_only=True)
class BaseCost:
    """TFLOP of one image: an evaluation of the U-Net, encoding and decoding by the VAE; two per multiply-accumulate."""

    evaluation: float
    encode: float
    decode: float
    unet: PartCost
    image_size: int


@dataclass(frozen=True, kw_only=True)
class Rates:
    """TFLOP per second of one GPU; the defaults are those of an A100."""

    sampling: float = STEPS_PER_SECOND * TFLOP_PER_STEP
    tuning: float = SHARE_WHEN_TUNING * STEPS_PER_SECOND * TFLOP_PER_STEP


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run asks of the base.

    Attributes:
        people, pictures: identities, and pictures of each.
        portraits: of each identity, mirror images included.
        steps: evaluations per picture, without those of guidance.
        guided: whether there is guidance, which doubles the evaluations.
        remade: share of the pictures that is made again because the filter rejects them.
        recompute: whether the backward pass computes the U-Net again.
    """

    people: int
    pictures: int
    portraits: int
    tuning: PersonalConfig
    steps: int
    guided: bool = True
    remade: float = 0.0
    recompute: bool = False


@dataclass(frozen=True, kw_only=True)
class Hours:
    """GPU hours of a plan, and their calculation as lines of text."""

    personalize: float
    generate: float
    learning: tuple[str, ...]
    making: str

    @property
    def total(self) -> float:
        """Of both stages."""
        return self.personalize + self.generate

    @property
    def in_all(self) -> str:
        """The sum, and where the rate is from."""
        return f"in all {self.total:,.0f} GPU hours. {SOURCE}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The whole calculation."""
        return (*self.learning, self.making, self.in_all)


def base_cost(unet: UNetPart, vae: VaePart, *, image_size: int) -> BaseCost:
    """The cost of a base at an image size: 0.803 TFLOP per evaluation for Stable Diffusion 1.5 at 512 px."""
    net = unet_cost(unet, size=image_size // vae.reduction)
    encoder, decoder = vae_cost(vae, size=image_size)
    evaluation, encode, decode = (2 * part.macs / 1e12 for part in (net, encoder, decoder))
    return BaseCost(evaluation=evaluation, encode=encode, decode=decode, unet=net, image_size=image_size)


def folder_cost(folder: ModelFolder, *, image_size: int | None = None) -> BaseCost:
    """The cost of a folder that was checked, at its own image size or another."""
    return base_cost(folder.unet, folder.vae, image_size=image_size or folder.image_size)


def adapter_size(cost: BaseCost, tuning: PersonalConfig, *, width: int) -> int:
    """Numbers that an identity's adapter holds, its vector of `width` included."""
    if tuning.method == "full":
        return cost.unet.parameters + width
    if tuning.method == "token":
        return width
    convolutions = cost.unet.conv_rank if tuning.lora.layers == "all" else 0
    return tuning.lora.rank * (convolutions + cost.unet.attention_rank) + width


def picture_tflop(cost: BaseCost, *, steps: int, guided: bool) -> float:
    """TFLOP of a sampled picture."""
    return steps * (2 if guided else 1) * cost.evaluation + cost.decode


def tuning_passes(tuning: PersonalConfig, *, recompute: bool = False) -> int:
    """Passes through the U-Net per sample of a step, each of the cost of an evaluation.

    Forward, and backward to the activations; backward to the weights costs the same again if weights are trained.
    Branches are a few thousandths of it and are left out.
    """
    return 2 + (tuning.method == "full") + recompute


def gpu_hours(cost: BaseCost, plan: Plan, *, rates: Rates | None = None) -> Hours:
    """GPU hours of personalize and generate for a plan, with the calculation."""
    rates, tuning = rates or Rates(), plan.tuning
    samples = tuning.batch * (2 if tuning.prior_weight else 1)
    passes = tuning_passes(tuning, recompute=plan.recompute)
    learning = tuning.steps * samples * passes * cost.evaluation
    encoding = (plan.portraits + (tuning.class_images if tuning.prior_weight else 0)) * cost.encode
    checks = 1 + math.ceil(tuning.steps / tuning.check_steps) if tuning.held_out else 0
    checked = picture_tflop(cost, steps=tuning.check_sampling_steps, guided=False)
    checking = checks * tuning.check_images * checked
    picture = picture_tflop(cost, steps=plan.steps, guided=plan.guided)
    pictures = plan.people * plan.pictures * (1 + plan.remade)
    learn_hours = plan.people * learning / rates.tuning / 3600
    other_hours = plan.people * (encoding + checking) / rates.sampling / 3600
    generate_hours = pictures * picture / rates.sampling / 3600
    learning_lines = (
        f"base: {cost.unet.parameters / 1e6:,.1f} M parameters in the U-Net; at {cost.image_size} px "
        f"{cost.evaluation:.3f} TFLOP per evaluation, {cost.encode:.2f} to encode and {cost.decode:.2f} to decode",
        f"learning: {plan.people:,} identities x {tuning.steps} steps x {samples} samples x {passes} passes x "
        f"{cost.evaluation:.3f} TFLOP / {rates.tuning:.1f} TFLOP/s = {learn_hours:,.1f} h",
        f"encoding and early stop: {plan.people:,} identities x ({encoding:.1f} + {checks} measurements x "
        f"{tuning.check_images} pictures x {checked:.1f}) TFLOP / {rates.sampling:.1f} TFLOP/s = {other_hours:,.1f} h",
    )
    making = (
        f"pictures: {plan.people:,} x {plan.pictures} x {1 + plan.remade:g} x ({plan.steps} steps x "
        f"{2 if plan.guided else 1} x {cost.evaluation:.3f} + {cost.decode:.2f}) TFLOP / {rates.sampling:.1f} TFLOP/s "
        f"= {generate_hours:,.1f} h"
    )
    return Hours(personalize=learn_hours + other_hours, generate=generate_hours, learning=learning_lines, making=making)
