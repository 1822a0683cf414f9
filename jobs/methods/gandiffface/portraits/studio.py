"""Portraits by a generator: edit, measure, accept or try again with half the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.plan import FACE
from jobs.methods.gandiffface.directions.plan import DIRECTIONS
from jobs.methods.gandiffface.directions.plan import NAME as DIRECTIONS_STAGE
from jobs.methods.gandiffface.directions.work import read_directions
from jobs.methods.gandiffface.identities.plan import MakeIdentities
from jobs.methods.gandiffface.identities.table import read_identities
from jobs.methods.gandiffface.measured_faces import FaceMaker
from jobs.methods.gandiffface.portraits.edits import cosines, drawn_steps, halved, limits_of, moved_as_asked, strongest
from jobs.methods.gandiffface.portraits.person import Made, Person
from jobs.methods.gandiffface.portraits.plan import MakePortraits, PortraitsUnit
from shards.images.jpeg import encode_jpeg


@dataclass(frozen=True, kw_only=True)
class _Try:
    """An edit of one person that is tried: portrait `index` with these steps."""

    person: Person
    index: int
    steps: Mapping[str, float]


class Studio:
    """What makes and judges portraits."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.config, self.seed = run.section(MakePortraits), run.seed
        self.min_face = run.section(MakeIdentities).min_face
        self.faces = FaceMaker(run, device=device)
        self.directions = read_directions(run.stage_folder(DIRECTIONS_STAGE).output(DIRECTIONS))
        self.limits = limits_of(self.config.edits, directions=self.directions.names)
        given = self.config.min_cosine
        self.min_cosine = read_identities(run).stranger_cosine if given is None else given

    def photograph(self, people: Sequence[Person], counts: Counter[str], *, work: Work[PortraitsUnit]) -> None:
        """The first portrait of each person, then its edits, with smaller steps where they fail."""
        w = self.faces.latents([person.candidates[0] for person in people])
        latents = {person.identity: row for person, row in zip(people, w.cpu().numpy(), strict=True)}
        first, tries = {}, []
        for person, made in self._made([latents[one.identity] for one in people], people, work):
            first[person.identity] = made
            person.portraits[0] = made.portrait(cosine=1.0)
            steps = drawn_steps(
                self.limits, portraits=self.config.count, seed=self.seed, candidate=person.candidates[0]
            )
            tries += [_Try(person=person, index=index, steps=one) for index, one in enumerate(steps) if one]
        for attempt in range(self.config.halvings + 1):
            moved = [self.directions.edited(latents[one.person.identity], one.steps) for one in tries]
            failed = []
            for one, made in self._made(moved, tries, work):
                before = first[one.person.identity]
                cosine = float(cosines(made.embedding[None], before.embedding[None])[0])
                if self._accepted(one, cosine=cosine, before=before.measured, after=made.measured):
                    counts["accepted" if attempt == 0 else "accepted_smaller"] += 1
                    one.person.portraits[one.index] = made.portrait(steps=one.steps, cosine=cosine)
                else:
                    failed.append(replace(one, steps=halved(one.steps)))
            tries = failed
        counts["given_up"] += len(tries)

    def _accepted(self, one: _Try, *, cosine: float, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
        """Whether the face is there, is still the same identity, and moved as asked."""
        name = strongest(one.steps, self.limits)
        moved = moved_as_asked(name, one.steps[name], before=before, after=after)
        return after.get(FACE, 1.0) >= self.min_face and cosine >= self.min_cosine and moved

    def _made(
        self, latents: Sequence[np.ndarray], owners: Sequence[Any], work: Work[PortraitsUnit]
    ) -> Iterator[tuple[Any, Made]]:
        """The owner and the picture of each latent, made in batches."""
        for start in range(0, len(latents), self.config.batch):
            part = torch.from_numpy(np.stack(latents[start : start + self.config.batch]))
            made = self.faces.measured(part)
            work.progress(len(part))
            for row in range(len(part)):
                measured = {name: float(column[row]) for name, column in made.attributes.items()}
                original = None
                if self.config.originals:
                    original = encode_jpeg(made.pictures[row], quality=self.config.quality)
                yield (
                    owners[start + row],
                    Made(face=made.faces[row], original=original, embedding=made.embedding[row], measured=measured),
                )
