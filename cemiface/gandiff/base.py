"""What personalization and generation need from a base, and the embedded base as one.

A base is a denoiser with a noise schedule, a condition made of named values, and a place in that condition for the
vector of an identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from cemiface.diffusion.sampler import adams
from cemiface.diffusion.schedule import Schedule
from cemiface.gandiff.slot_denoiser import SlotDenoiser, load_base
from cemiface.gandiff.slots import Slot, positions_of

Asked = Mapping[str, str]  # value by slot; a slot that is not named is not stated


class Base(Protocol):
    """A frozen denoiser of images or of their latents."""

    @property
    def net(self) -> nn.Module:
        """What adapters are attached to."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def token(self) -> Tensor:
        """(width,): the vector of "anybody", which an identity's vector starts from."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what the net denoises: channels, height, width."""

    @property
    def bounded(self) -> bool:
        """Whether what the net denoises lies in [-1, 1], so that predictions may be clipped."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that it makes."""

    @property
    def aligned(self) -> bool:
        """Whether its images are faces on the ArcFace template; if not, a face is somewhere in them."""

    @property
    def slots(self) -> Sequence[Slot]:
        """What it can be told of a face that was measured."""

    def encoded(self, images: Tensor) -> Tensor:
        """What the net denoises, of images (N, 3, S, S) in [-1, 1]."""

    def decoded(self, x: Tensor) -> Tensor:
        """The images (N, 3, S, S) around [-1, 1] of what the net denoises."""

    def condition(self, asked: Sequence[Asked]) -> Tensor:
        """The conditions of N images as one tensor, whose first dimension is N.

        Raises ModelError for a slot or value that the base does not have.
        """

    def predict(self, x: Tensor, t: Tensor, condition: Tensor, tokens: Tensor | None) -> Tensor:
        """The net's output for x at timesteps t (N,); `tokens` (N, width) are the identities, None is anybody."""


@dataclass(frozen=True, kw_only=True)
class SlotBase:
    """The embedded base: the suite's own denoiser at the size of the images, conditioned on slots."""

    net: SlotDenoiser
    schedule: Schedule
    bounded: bool = True
    aligned: bool = True

    @property
    def token(self) -> Tensor:
        """See `Base`."""
        return self.net.condition.anybody

    @property
    def shape(self) -> tuple[int, int, int]:
        """See `Base`."""
        return (3, self.image_size, self.image_size)

    @property
    def image_size(self) -> int:
        """See `Base`."""
        return self.net.config.image_size

    @property
    def slots(self) -> Sequence[Slot]:
        """See `Base`."""
        return self.net.config.slots

    def encoded(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images

    def decoded(self, x: Tensor) -> Tensor:
        """The images themselves."""
        return x

    def condition(self, asked: Sequence[Asked]) -> Tensor:
        """Positions (N, L) of the values; see `Base`."""
        rows = [positions_of(self.net.config.slots, one) for one in asked]
        return torch.tensor(rows, device=self.token.device)

    def predict(self, x: Tensor, t: Tensor, condition: Tensor, tokens: Tensor | None) -> Tensor:
        """See `Base`."""
        output: Tensor = self.net(x, t, condition, tokens)
        return output


def load_slot_base(path: str | Path, *, device: torch.device | str = "cpu") -> SlotBase:
    """The base of a file of the stage train-base; raises ModelError as `load_base`."""
    net, diffusion = load_base(path)
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return SlotBase(net=net, schedule=Schedule(diffusion, device=device))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How pictures are sampled from a base.

    Attributes:
        steps: evaluations of the condition; with guidance as many of what it is guided away from.
        guidance: 1 takes the prediction of the condition as it is; above 1 it is moved away from the other one
            (classifier-free guidance, Ho and Salimans 2022, arXiv 2207.12598).
        negative: what it is moved away from, {} for an image of which nothing is asked.
    """

    steps: int = 10
    guidance: float = 1.0
    negative: Asked | None = None


def sampled(
    base: Base,
    asked: Sequence[Asked],
    *,
    noise: Tensor,
    tokens: Tensor | None,
    sampling: Sampling,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Images (N, 3, S, S) in float32, by a predictor-corrector of few steps.

    Image i depends on asked[i], noise[i] and tokens[i] alone. Attached adapters take part in both predictions; what is
    guided away from is anybody.
    """
    condition = base.condition(asked)
    away = base.condition([sampling.negative or {}] * len(asked))

    def predict(x: Tensor, t: Tensor) -> Tensor:
        towards = base.predict(x, t, condition, tokens)
        if sampling.guidance == 1:
            return towards
        other = base.predict(x, t, away, None)
        return other + sampling.guidance * (towards - other)

    x = adams(predict, noise=noise, schedule=base.schedule, steps=sampling.steps, clip_x0=base.bounded, on_step=on_step)
    return base.decoded(x)
