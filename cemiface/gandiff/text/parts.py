"""What the JSON files of a Stable Diffusion folder may say. Importing this module does not import torch.

A value that this suite does not handle is refused, not ignored: each model states the values that it stands for.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cemiface.diffusion.config import DiffusionConfig
from cemiface.values import require

Width = Annotated[int, Field(ge=1, le=65536)]
Depth = Annotated[int, Field(ge=1, le=16)]
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]

LONGEST_PROMPT = 1024  # tokens; CLIP has 77


class Part(BaseModel):
    """A JSON file of the folder; fields that are not named do not change the computation."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    WEIGHTS: ClassVar[str] = "diffusion_pytorch_model"  # the weights file beside it, without suffix


class UNetPart(Part):
    """UNet2DConditionModel, as Stable Diffusion 1, 2 and XL have it."""

    sample_size: Width
    in_channels: Width
    out_channels: Width
    block_out_channels: Widths
    layers_per_block: Depth = 2
    down_block_types: tuple[Literal["CrossAttnDownBlock2D", "DownBlock2D"], ...]
    up_block_types: tuple[Literal["CrossAttnUpBlock2D", "UpBlock2D"], ...]
    mid_block_type: Literal["UNetMidBlock2DCrossAttn"] = "UNetMidBlock2DCrossAttn"
    cross_attention_dim: Width
    attention_head_dim: Width | Widths = 8  # the number of heads: diffusers misnames it
    transformer_layers_per_block: Depth | tuple[Depth, ...] = 1
    use_linear_projection: bool = False
    addition_embed_type: Literal["text_time"] | None = None
    addition_time_embed_dim: Width | None = None
    projection_class_embeddings_input_dim: Width | None = None
    # What other networks of this class have, and this suite does not.
    num_attention_heads: None = None
    class_embed_type: None = None
    num_class_embeds: None = None
    encoder_hid_dim: None = None
    time_cond_proj_dim: None = None
    time_embedding_dim: None = None
    reverse_transformer_layers_per_block: None = None
    only_cross_attention: Literal[False] = False
    dual_cross_attention: Literal[False] = False
    class_embeddings_concat: Literal[False] = False
    center_input_sample: Literal[False] = False
    resnet_time_scale_shift: Literal["default"] = "default"
    time_embedding_type: Literal["positional"] = "positional"
    attention_type: Literal["default"] = "default"
    conv_in_kernel: Literal[3] = 3
    conv_out_kernel: Literal[3] = 3

    @model_validator(mode="after")
    def _check(self) -> Self:
        levels = len(self.block_out_channels)
        per_level = {
            "down_block_types": self.down_block_types,
            "up_block_types": self.up_block_types,
            "transformer_layers_per_block": self.transformers,
            "attention_head_dim": self.heads,
        }
        for name, values in per_level.items():
            require(len(values) == levels, name, f"{len(values)} values", f"{levels}, one per level")
        for width, heads in zip(self.block_out_channels, self.heads, strict=True):
            require(width % heads == 0, "attention_head_dim", heads, f"a divisor of {width} channels")
        require(self.in_channels == self.out_channels, "in_channels", self.in_channels, "out_channels; no inpainting")
        return self

    @property
    def transformers(self) -> tuple[int, ...]:
        """Transformer layers per attention block of each level."""
        given = self.transformer_layers_per_block
        return (given,) * len(self.block_out_channels) if isinstance(given, int) else given

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each level."""
        given = self.attention_head_dim
        return (given,) * len(self.block_out_channels) if isinstance(given, int) else given


class VaePart(Part):
    """AutoencoderKL."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: Width = 4
    block_out_channels: Widths
    layers_per_block: Depth = 1
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...]
    up_block_types: tuple[Literal["UpDecoderBlock2D"], ...]
    scaling_factor: Annotated[float, Field(gt=0)] = 0.18215
    force_upcast: bool = False
    shift_factor: None = None
    latents_mean: None = None
    latents_std: None = None

    @property
    def reduction(self) -> int:
        """Pixels per latent along a side."""
        return int(2 ** (len(self.block_out_channels) - 1))


class TextPart(Part):
    """CLIPTextModel or CLIPTextModelWithProjection."""

    WEIGHTS: ClassVar[str] = "model"

    hidden_size: Width
    num_hidden_layers: Annotated[int, Field(ge=1, le=128)]
    vocab_size: Annotated[int, Field(ge=3, le=1_000_000)]
    max_position_embeddings: Annotated[int, Field(ge=3, le=LONGEST_PROMPT)] = 77
    projection_dim: Width = 512


class SchedulerPart(Part):
    """The noise schedule; how the folder's own pipeline would sample does not matter."""

    num_train_timesteps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    beta_schedule: Literal["linear", "scaled_linear"] = "linear"
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    trained_betas: None = None
    rescale_betas_zero_snr: Literal[False] = False

    @property
    def diffusion(self) -> DiffusionConfig:
        """The same in this suite's terms."""
        return DiffusionConfig(
            timesteps=self.num_train_timesteps,
            schedule=self.beta_schedule,
            beta_start=self.beta_start,
            beta_end=self.beta_end,
            prediction="noise" if self.prediction_type == "epsilon" else "velocity",
        )
