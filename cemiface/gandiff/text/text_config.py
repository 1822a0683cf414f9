"""What a user sets about a Stable Diffusion base. Importing this module does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from cemiface.values import FrozenModel

IDENTITY = "<identity>"  # in prompts, where the identity's vector goes
PROMPT = "prompt"  # a slot whose value is a prompt word by word, for negative prompts

Precision = Literal["float32", "bfloat16", "float16"]


class TextBaseConfig(FrozenModel):
    """How a Stable Diffusion folder is used."""

    word: Annotated[str, Field(min_length=1, max_length=40)] = Field(
        "person",
        description=(
            "The word whose vector an identity's vector starts from, and which stands for anybody. It must be one "
            "token of the tokenizer."
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
            "Of the base's weights. null: bfloat16 on GPUs that have it, float16 on others, float32 on CPUs. Small "
            "gradients vanish in float16, so personalization on such GPUs is better in float32."
        ),
    )
    recompute: bool = Field(
        False,
        description=(
            "Compute parts of the U-Net again in the backward pass instead of storing them: a third more time, several "
            "times less memory."
        ),
    )
