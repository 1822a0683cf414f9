"""Personalization: a base learns some identities from their portraits, each by itself but all in one batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from cemiface.gandiff.base import Asked, Base
from cemiface.gandiff.personal.config import PersonalConfig
from cemiface.gandiff.personal.full_tuning import FullWeights
from cemiface.gandiff.personal.likeness import Likeness, Measured
from cemiface.gandiff.personal.lora import LoraAdapters


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Images (P, 3, S, S) in [-1, 1], and what each shows.

    Attributes:
        faces: (P, 3, F, F), the same faces on the ArcFace template, which recognition nets take; None: the images are.
    """

    images: Tensor
    asked: Sequence[Asked]
    faces: Tensor | None = None

    def __len__(self) -> int:
        return len(self.asked)

    def part(self, rows: slice) -> Pictures:
        """Some of the pictures."""
        faces = None if self.faces is None else self.faces[rows]
        return Pictures(images=self.images[rows], asked=self.asked[rows], faces=faces)


@dataclass(frozen=True, kw_only=True)
class Person:
    """An identity to learn.

    Attributes:
        training: the portraits to learn from, mirror images included.
        held_out: portraits that early stop compares with; empty for none.
        class_pictures: pictures of others of the demographic group; used if the config preserves the prior.
        seed: of everything random about this identity.
    """

    name: str
    training: Pictures
    held_out: Pictures | None
    class_pictures: Pictures | None
    seed: int


@dataclass(kw_only=True)
class Learned:
    """What was learned of an identity, and how.

    Attributes:
        tensors: the adapter's, by name.
        step: the step that they are of.
        curve: a line per measurement: step, loss (mean since the last line), cosine, copying.
    """

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    best: Measured | None = None


class Adapters(Protocol):
    """Trainable parameters of some identities on one net: `LoraAdapters` or `FullWeights`."""

    token: nn.Parameter

    def __len__(self) -> int: ...
    def attached(self) -> AbstractContextManager[None]: ...
    def tokens(self, each: int) -> Tensor: ...
    def clip(self, *, largest: float) -> Tensor: ...
    def keep(self, rows: Sequence[int], *, optimizer: torch.optim.Optimizer) -> None: ...
    def state(self, identity: int) -> dict[str, Tensor]: ...
    def load(self, identity: int, tensors: Mapping[str, Tensor]) -> None: ...


def new_adapters(base: Base, config: PersonalConfig, *, seeds: Sequence[int]) -> Adapters:
    """Adapters that change nothing yet, one per seed; method full takes one."""
    if config.method == "full":
        assert len(seeds) == 1
        return FullWeights(base.net, token=base.token)
    return LoraAdapters(base.net, config.lora if config.method == "lora" else None, seeds=seeds, token=base.token)


def tune(
    base: Base,
    people: Sequence[Person],
    config: PersonalConfig,
    *,
    likeness: Likeness | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Learned]:
    """Learn some identities in one batch; each is learned as if it was alone, up to rounding.

    An identity whose cosine to its held-out portraits stopped growing is finished, and the others go on; the state with
    the highest cosine is kept. `on_step(step)` is called before each step and may raise to stop.
    """
    learned = [Learned(name=person.name) for person in people]
    adapters = new_adapters(base, config, seeds=[person.seed for person in people])
    optimizer = _optimizer(adapters, config)
    draws = [torch.Generator().manual_seed(person.seed) for person in people]
    parts = _encoded_once(people, config, base=base)
    active = list(range(len(people)))
    losses: list[Tensor] = []
    for step in range(config.steps + 1):
        last = step == config.steps
        if likeness and (last or step % config.check_steps == 0):
            means = torch.stack(losses).mean(dim=0).tolist() if losses else [math.nan] * len(active)
            with adapters.attached():
                found = likeness.measured(base, [people[row] for row in active], tokens=adapters.token.detach())
            for position, row in enumerate(active):
                _note(learned[row], found[position], step=step, loss=means[position], adapters=adapters, row=position)
            losses = []
            going = [position for position, row in enumerate(active) if not _finished(learned[row], config)]
            if not going or last:
                break
            if len(going) < len(active):
                adapters.keep(going, optimizer=optimizer)
                active = [active[position] for position in going]
        if last:
            break
        on_step(step)
        factor = (1 + math.cos(math.pi * step / config.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        batches = [_drawn(parts[row], draws[row], config, base=base) for row in active]
        optimizer.zero_grad()
        with adapters.attached():  # around the backward pass too, which computes parts of the net again
            loss = _loss(base, batches, adapters, config)
            loss.sum().backward()
        adapters.clip(largest=config.gradient_clipping)
        optimizer.step()
        losses.append(loss.detach())
    for position, row in enumerate(active):
        if not learned[row].tensors:  # nothing was measured
            learned[row].tensors, learned[row].step = adapters.state(position), config.steps
    return learned


def _optimizer(adapters: Adapters, config: PersonalConfig) -> torch.optim.Optimizer:
    assert isinstance(adapters, nn.Module)
    rest = [parameter for parameter in adapters.parameters() if parameter is not adapters.token]
    groups = [
        {"params": rest, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": [adapters.token], "lr": config.token_learning_rate, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """The samples of one identity in one step: its own, then those of its class."""

    x0: Tensor
    asked: Sequence[Asked]
    noise: Tensor
    t: Tensor
    own: int


Parts = Sequence[tuple[Tensor, Sequence[Asked]]]  # what an identity learns from: its portraits, then its class pictures


def _encoded_once(people: Sequence[Person], config: PersonalConfig, *, base: Base) -> list[Parts]:
    """What each identity learns from, as the net takes it; encoding costs as much as a step, so it is done once."""
    known: dict[int, Tensor] = {}

    def encoded(pictures: Pictures) -> tuple[Tensor, Sequence[Asked]]:
        if id(pictures.images) not in known:  # identities of one group share their class pictures
            known[id(pictures.images)] = base.encoded(pictures.images)
        return known[id(pictures.images)], pictures.asked

    with_class = [
        [person.training, *([person.class_pictures] if config.prior_weight and person.class_pictures else [])]
        for person in people
    ]
    return [[encoded(pictures) for pictures in parts] for parts in with_class]


def _drawn(parts: Parts, draw: torch.Generator, config: PersonalConfig, *, base: Base) -> _Batch:
    """The samples of a step; timesteps are spread evenly, which makes the loss vary less."""
    drawn, asked, times = [], [], []
    for images, shown in parts:
        rows = torch.randint(len(images), (config.batch,), generator=draw)
        drawn.append(images[rows.to(images.device)])
        asked += [shown[row] for row in rows.tolist()]
        spread = (torch.arange(config.batch) + torch.rand(config.batch, generator=draw)) / config.batch
        times.append((spread.double() * base.schedule.timesteps).long().clamp(max=base.schedule.timesteps - 1))
    x0 = torch.cat(drawn)
    noise = torch.randn(x0.shape, generator=draw).to(x0.device)
    return _Batch(x0=x0, asked=asked, noise=noise, t=torch.cat(times).to(x0.device), own=config.batch)


def _loss(base: Base, batches: Sequence[_Batch], adapters: Adapters, config: PersonalConfig) -> Tensor:
    """(I,): per identity the mean squared error of its own samples, and of its class times the prior's weight."""
    x0, noise, t = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x0", "noise", "t"))
    condition = base.condition([asked for batch in batches for asked in batch.asked])
    own, each = batches[0].own, len(batches[0].x0)
    tokens = adapters.tokens(own).unflatten(0, (len(batches), own))
    anybody = base.token.expand(len(batches), each - own, -1)
    tokens = torch.cat([tokens, anybody], dim=1).flatten(0, 1)
    x_t = base.schedule.add_noise(x0, noise, t)
    output = base.predict(x_t, t, condition, tokens)
    errors = (output - base.schedule.target(x_t, noise, t)).square().flatten(1).mean(dim=1)
    errors = errors.unflatten(0, (len(batches), each))
    loss: Tensor = errors[:, :own].mean(dim=1)
    return loss if own == each else loss + config.prior_weight * errors[:, own:].mean(dim=1)


def _note(learned: Learned, found: Measured, *, step: int, loss: float, adapters: Adapters, row: int) -> None:
    """Add a line to the curve, and keep the state if it is the best so far."""
    line = {"step": step, "cosine": round(found.cosine, 4), "copying": round(found.copying, 4)}
    learned.curve.append(line if math.isnan(loss) else {**line, "loss": round(loss, 5)})
    if learned.best is None or found.better_than(learned.best):
        learned.best, learned.step, learned.tensors = found, step, adapters.state(row)


def _finished(learned: Learned, config: PersonalConfig) -> bool:
    """Whether the last measurements brought nothing better."""
    since = [line for line in learned.curve if line["step"] > learned.step]
    return len(since) >= config.patience
