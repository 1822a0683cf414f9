"""How much an adapted base resembles an identity, for early stop: neither too little, nor by copying a portrait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cemiface.gandiff.base import Base, Sampling, sampled

if TYPE_CHECKING:
    from cemiface.gandiff.personal.tuning import Person

Embed = Callable[[Tensor], Tensor]  # aligned faces (N, 3, S, S) in [-1, 1] to embeddings (N, E)


def as_it_is(pictures: Tensor) -> Tensor:
    """For bases whose pictures are aligned faces."""
    return pictures


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measurement.

    Attributes:
        cosine: mean cosine of sampled pictures to the held-out portraits.
        copying: how much nearer the pictures are to their nearest training portrait than to the portraits' center.
        copies: whether that is more than allowed.
    """

    cosine: float
    copying: float
    copies: bool

    def better_than(self, other: Measured) -> bool:
        """No copying first, then the higher cosine; among copies the one that copies less."""
        if self.copies or other.copies:
            return self.copying < other.copying
        return self.cosine > other.cosine


class Likeness:
    """Samples pictures that ask for what the held-out portraits show, and compares them under a recognition net."""

    def __init__(
        self, embed: Embed, *, images: int, steps: int, max_copying: float, faces: Callable[[Tensor], Tensor] = as_it_is
    ) -> None:
        """`faces`: from the base's pictures (N, 3, S, S) to faces on the ArcFace template, which `embed` takes."""
        self.embed, self.faces, self.images, self.max_copying = embed, faces, images, max_copying
        self.sampling = Sampling(steps=steps)
        self._known: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def measured(self, base: Base, people: Sequence[Person], *, tokens: Tensor) -> list[Measured]:
        """A measurement of each person; adapters of these people must be attached. The noise is always the same."""
        asked, noise = [], []
        for person in people:
            assert person.held_out is not None
            draw = torch.Generator().manual_seed(person.seed)
            asked += [person.held_out.asked[number % len(person.held_out)] for number in range(self.images)]
            noise.append(torch.randn((self.images, *base.shape), generator=draw))
        pictures = sampled(
            base,
            asked,
            noise=torch.cat(noise).to(tokens.device),
            tokens=tokens.repeat_interleave(self.images, dim=0),
            sampling=self.sampling,
        )
        embedded = F.normalize(self.embed(self.faces(pictures.clamp(-1, 1))).float(), dim=1).unflatten(
            0, (len(people), -1)
        )
        return [self._compared(rows, person) for rows, person in zip(embedded, people, strict=True)]

    def _compared(self, pictures: Tensor, person: Person) -> Measured:
        held_out, training = self._portraits(person)
        center = F.normalize(training.mean(dim=0), dim=0)
        copying = float(((pictures @ training.T).max(dim=1).values - pictures @ center).mean())
        cosine = float((pictures @ held_out.T).mean())
        return Measured(cosine=cosine, copying=copying, copies=copying > self.max_copying)

    def _portraits(self, person: Person) -> tuple[Tensor, Tensor]:
        """Embeddings of the held-out and the training portraits, of length 1."""
        if person.name not in self._known:
            assert person.held_out is not None
            aligned = [one.images if one.faces is None else one.faces for one in (person.held_out, person.training)]
            both = [F.normalize(self.embed(faces).float(), dim=1) for faces in aligned]
            self._known[person.name] = (both[0], both[1])
        return self._known[person.name]
