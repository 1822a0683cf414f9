"""What a user sets about a Stable Diffusion base. Importing this module does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from cemiface.gandiff.personal.config import LoraConfig, PersonalConfig
from cemiface.values import FrozenModel

IDENTITY = "<identity>"  # in prompts, where the identity's vector goes
PROMPT = "prompt"  # a slot whose value is a prompt word by word, for negative prompts

Precision = Literal["float32", "bfloat16", "float16"]


class TextBaseConfig(FrozenModel):
    """How a Stable Diffusion folder is used."""

    word: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        "a",
        description=(
            "The word whose vector an identity's vector starts from, and which stands for anybody: with the default a "
            "prompt reads 'photo of a woman' before personalization. It must be one token of the tokenizer."
        ),
    )
    image_size: PositiveInt | None = Field(
        None,
        description=(
            "Side in pixels of the images that the base makes. null: what it was trained for, 512 for Stable Diffusion "
            "1.5, 768 for 2.1, 1024 for XL. Cost grows with its square; far from the trained size faces suffer."
        ),
    )
    precision: Precision | None = Field(
        None,
        description=(
            "Of the base's weights and arithmetic, instead of the stages' `precision`. null: bfloat16 on GPUs that "
            "have it, float16 on others, float32 on CPUs. Small gradients vanish in float16, so personalization on "
            "such GPUs is better in float32."
        ),
    )
    recompute: bool = Field(
        False,
        description=(
            "Compute parts of the U-Net again in the backward pass instead of storing them: a third more time, several "
            "times less memory."
        ),
    )


# Personalization of a text base where the config sets nothing. ID-Booth's rank 4 on the attention, one portrait and one
# class picture per step, at 800 steps instead of its 6,400: early stop looks for the best. Calculated for its cost, not
# tuned on real weights.
TEXT_PERSONAL = PersonalConfig(
    lora=LoraConfig(rank=4, layers="attention"),
    steps=800,
    batch=1,
    learning_rate=1e-4,
    token_learning_rate=5e-4,
    prior_weight=1.0,
    check_steps=100,
)
