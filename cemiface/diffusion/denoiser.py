"""The denoiser: the ADM U-Net of DCFace (Dhariwal and Nichol 2021, arXiv 2105.05233) with CemiFace's condition.

Identity and similarity enter as one extra key/value token in every attention block (CemiFace eq. 5-8); the timestep
enters through adaptive group norm. Nothing else is conditioned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cemiface.diffusion.config import GROUPS, OUTPUT_CHANNELS, DenoiserConfig, DiffusionConfig
from cemiface.errors import ModelError
from cemiface.weights import fit_weights, read_weights, weights_bytes

TIME_PERIOD = 10_000

Resample = Literal["down", "up"] | None


class GroupNorm(nn.GroupNorm):
    """Group norm computed in float32 whatever autocast says; returns the dtype it got.

    Groups of at least four channels: a channel alone in its group loses its mean, and with it the color of the image,
    which at the noisiest timesteps has to be known to a hundredth of the noise.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(min(GROUPS, channels // 4), channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        return super().forward(input.float()).to(input.dtype)


class ResidualBlock(nn.Module):
    """Two convolutions with the timestep in between, optionally at half or double the resolution."""

    def __init__(self, inputs: int, outputs: int, *, time_width: int, resample: Resample = None) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = GroupNorm(inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time_width, 2 * outputs)
        self.norm_out = GroupNorm(outputs)
        self.conv_out = zero_init(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self._resized(recomputed(lambda x: silu(self.norm_in(x)), x))
        h = self.norm_out(self.conv_in(h))
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_out(recomputed(lambda h: silu(h * (1 + scale) + shift), h))
        return self.skip(self._resized(x)) + h

    def _resized(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return x


class Attention(nn.Module):
    """Self-attention over the image tokens and the condition tokens in one softmax (eq. 8)."""

    def __init__(self, channels: int, *, head_channels: int, condition_width: int, condition_tokens: int = 1) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.tokens = condition_tokens
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = zero_init(nn.Conv2d(channels, channels, 1))
        self.condition = nn.Linear(condition_width, 2 * condition_tokens * channels)  # F2 in eq. 7: keys and values

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        tokens = self.qkv(self.norm(x)).reshape(n, 3, self.heads, -1, height * width)
        q, k, v = tokens.transpose(-1, -2).unbind(1)  # each (N, heads, H*W, head_channels)
        condition_k, condition_v = self.condition(condition).reshape(n, 2, self.heads, self.tokens, -1).unbind(1)
        k, v = torch.cat([condition_k, k], dim=2), torch.cat([condition_v, v], dim=2)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.project(h.transpose(-1, -2).reshape(n, channels, height, width))


class Condition(nn.Module):
    """The vector every attention block makes its condition token of: cat(C_id, C_sim), or the learned null."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.unit = config.identity_scale == "unit"
        self.embedding = config.embedding
        self.width = config.embedding + config.similarity_width
        self.similarity = nn.Linear(1, config.similarity_width)  # F1 in eq. 6
        self.null = nn.Parameter(torch.zeros(self.width))

    def forward(self, identity: Tensor, m: Tensor, null: Tensor | None) -> Tensor:
        if identity.shape[1] != self.embedding:
            raise ModelError(
                f"denoiser: got identity embeddings of width {identity.shape[1]}; it was built for {self.embedding}. "
                "Use the recognition net it was trained with, or set denoiser.embedding"
            )
        if self.unit:
            identity = F.normalize(identity, dim=1) * math.sqrt(self.embedding)
        condition = torch.cat([identity, self.similarity(m[:, None])], dim=1)
        if null is None:
            null = torch.zeros_like(m, dtype=torch.bool)
        # Always through `where`: the null then has a gradient, if zero, on every rank of a data-parallel job.
        return torch.where(null[:, None], self.null.to(condition.dtype), condition)


class Stage(nn.Module):
    """One step down or up the U: a residual block, then maybe attention, then maybe an upsampling block."""

    def __init__(self, block: ResidualBlock, attention: Attention | None = None, up: ResidualBlock | None = None):
        super().__init__()
        self.block, self.attention, self.up = block, attention, up

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        x = self.block(x, time)
        if self.attention is not None:
            x = self.attention(x, condition)
        return x if self.up is None else self.up(x, time)


class Denoiser(nn.Module):
    """Predicts the noise in x_t, or its velocity, given the identity embedding and the wished similarity m to it."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.condition = Condition(config)
        time_width = 4 * config.channels
        self.time = nn.Sequential(nn.Linear(config.channels, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        first = config.channels * config.multipliers[0]
        self.stem = nn.Conv2d(3, first, 3, padding=1)
        encoder, skips = self._encoder()
        self.encoder = nn.ModuleList(encoder)
        last = skips[-1]
        self.middle = Stage(self._block(last, last), self._attention(last))
        self.middle_out = Stage(self._block(last, last))
        self.decoder = nn.ModuleList(self._decoder(last, skips))
        self.norm = GroupNorm(first)
        self.output = zero_init(nn.Conv2d(first, OUTPUT_CHANNELS, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, identity: Tensor, m: Tensor, null: Tensor | None = None) -> Tensor:
        """Noise (N, 3, S, S) in x, or its velocity: what it was trained to, `DiffusionConfig.prediction`.

        x (N, 3, S, S) around [-1, 1]; t (N,) long in 0..T-1; identity (N, embedding), scaled here as the config says;
        m (N,) in [-1, 1]; null (N,) bool: rows that are denoised without condition. Raises ModelError on an identity
        of another width.
        """
        time = F.silu(self.time(timestep_embedding(t, self.config.channels)))
        condition = self.condition(identity, m, null)
        h = self.stem(x)
        skips = [h]
        for stage in self.encoder:
            h = stage(h, time, condition)
            skips.append(h)
        h = self.middle_out(self.middle(h, time, condition), time, condition)
        for stage in self.decoder:
            h = stage(torch.cat([h, skips.pop()], dim=1), time, condition)
        return self.output(silu(self.norm(h)))[:, :3]

    def parameter_counts(self) -> tuple[int, int]:
        """Numbers of parameters of the U-Net proper, and of the condition adapter."""
        adapter = sum(p.numel() for name, p in self.named_parameters() if "condition" in name.split("."))
        return sum(p.numel() for p in self.parameters()) - adapter, adapter

    def _encoder(self) -> tuple[list[nn.Module], list[int]]:
        """The stages down, and the channels of the stem's and every stage's output."""
        config = self.config
        width = config.channels * config.multipliers[0]
        stages: list[nn.Module] = []
        skips = [width]
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                block = self._block(width, config.channels * multiplier)
                width = config.channels * multiplier
                stages.append(Stage(block, self._attention_at(level, width)))
                skips.append(width)
            if level + 1 < len(config.multipliers):
                stages.append(Stage(self._block(width, width, self._resample(level, "down"))))
                skips.append(width)
        return stages, skips

    def _decoder(self, width: int, skips: list[int]) -> Iterator[nn.Module]:
        """The stages up; each takes one of the skips, the last first."""
        config, skips = self.config, list(skips)
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            outputs = config.channels * multiplier
            for index in range(config.blocks + 1):
                block = self._block(width + skips.pop(), outputs)
                width = outputs
                rises = level > 0 and index == config.blocks
                up = self._block(width, width, self._resample(level - 1, "up")) if rises else None
                yield Stage(block, self._attention_at(level, width), up)

    def _block(self, inputs: int, outputs: int, resample: Resample = None) -> ResidualBlock:
        return ResidualBlock(inputs, outputs, time_width=4 * self.config.channels, resample=resample)

    def _attention(self, width: int) -> Attention:
        return Attention(
            width,
            head_channels=self.config.head_channels,
            condition_width=self.condition.width,
            condition_tokens=self.config.condition_tokens,
        )

    def _attention_at(self, level: int, width: int) -> Attention | None:
        # By level, as ADM does by nominal rate: the level after a skipped downsampling does not attend at the same 7x7.
        return self._attention(width) if level in self.config.attention_levels else None

    def _resample(self, level: int, direction: Resample) -> Resample:
        return None if level == self.config.skip_downsample_level else direction


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines and sines of t (N,) at width / 2 frequencies from 1 to 1 / 10,000: (N, width) in float32."""
    half = width // 2
    frequencies = torch.exp(-math.log(TIME_PERIOD) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that nobody else holds, in its own memory where no gradient needs it: 3 % of a forward pass."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), of which only x is kept for the backward pass: what is cheap to compute takes memory to remember."""
    if not torch.is_grad_enabled():
        return function(x)
    found: Tensor = checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
    return found


def zero_init(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that gives zero until it is trained, so that every residual branch starts as the identity."""
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def denoiser_bytes(denoiser: Denoiser, *, diffusion: DiffusionConfig, embedder: str) -> bytes:
    """A safetensors file of a trained denoiser; with the schedule, as no other gives sensible images.

    `embedder` is the sha256 of the weights file of E_id, whose embeddings alone mean something to this net.
    """
    metadata = {"config": denoiser.config.model_dump_json(), "diffusion": diffusion.model_dump_json()}
    return weights_bytes(denoiser, metadata={**metadata, "embedder": embedder})


def load_denoiser(path: str | Path) -> tuple[Denoiser, DiffusionConfig]:
    """The denoiser of a file that `denoiser_bytes` made, in eval mode and frozen, and the schedule it was trained with.

    Raises ModelError for a file that is missing, text, partly written, or not a denoiser of this suite.
    """
    tensors, config, diffusion, _ = _read_denoiser(path)
    denoiser = Denoiser(config)
    fit_weights(denoiser, tensors, path=path)
    return denoiser.eval().requires_grad_(False), diffusion


def start_from(denoiser: Denoiser, path: str | Path, *, diffusion: DiffusionConfig, embedder: str | None) -> None:
    """Give a denoiser about to be trained the weights of an earlier training; `embedder` None: with whatever E_id.

    The image size may be another: no weight depends on it, so that a training can go on at a higher resolution.

    Raises ModelError for files that `load_denoiser` refuses, and for a net of another shape, schedule or E_id.
    """
    tensors, config, its_diffusion, its_embedder = _read_denoiser(path)
    theirs = {**config.model_dump(), **its_diffusion.model_dump(), "E_id of sha256": its_embedder}
    ours = {**denoiser.config.model_dump(), **diffusion.model_dump(), "E_id of sha256": embedder or its_embedder}
    other = next((field for field in ours if field != "image_size" and theirs[field] != ours[field]), None)
    if other:
        raise ModelError(
            f"weights {path}: trained with {other} {theirs[other]}, here it is {ours[other]}; give both the same"
        )
    fit_weights(denoiser, tensors, path=path)


def _read_denoiser(path: str | Path) -> tuple[dict[str, Tensor], DenoiserConfig, DiffusionConfig, str]:
    tensors, metadata = read_weights(path)
    try:
        config = DenoiserConfig.model_validate_json(metadata["config"])
        diffusion = DiffusionConfig.model_validate_json(metadata["diffusion"])
        return tensors, config, diffusion, metadata["embedder"]
    except (KeyError, ValidationError) as error:
        raise ModelError(f"weights {path}: not a denoiser; give the file that train-diffusion wrote") from error
