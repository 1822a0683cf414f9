"""The work of portraits: edit, measure, accept or try again with half the steps, then with a spare candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from jobs.frame.method import ImageRequest, identity_name
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.gandiffface.directions.plan import DIRECTIONS
from jobs.methods.gandiffface.directions.plan import NAME as DIRECTIONS_STAGE
from jobs.methods.gandiffface.directions.work import read_directions
from jobs.methods.gandiffface.identities.plan import MakeIdentities
from jobs.methods.gandiffface.identities.table import read_identities
from jobs.methods.gandiffface.measured_faces import FaceMaker
from jobs.methods.gandiffface.portraits.edits import cosines, drawn_steps, halved, limits_of, moved_as_asked, strongest
from jobs.methods.gandiffface.portraits.plan import FACES, NAME, STAGE, MakePortraits, PortraitsUnit
from jobs.stages.shared.tars import publishing_tar
from jobs.training.device import rank_device
from shards.images.jpeg import encode_jpeg
from shards.tars.records import SYNTHETIC
from shards.tars.shard_set import ShardSet
from slurm.files import Output
from slurm.markers import Marker


@dataclass(frozen=True, kw_only=True)
class _Portrait:
    """An accepted portrait."""

    face: np.ndarray
    original: bytes | None  # a JPEG
    steps: Mapping[str, float]
    measured: Mapping[str, float]
    cosine: float


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A picture by the generator, with what is measured of it."""

    face: np.ndarray
    original: bytes | None
    embedding: np.ndarray
    measured: Mapping[str, float]

    def portrait(self, *, steps: Mapping[str, float], cosine: float) -> _Portrait:
        return _Portrait(face=self.face, original=self.original, steps=steps, measured=self.measured, cosine=cosine)


@dataclass(kw_only=True)
class _Person:
    """One identity of a unit while its portraits are made; `candidates`: its own, then its spares."""

    identity: int
    candidates: list[int]
    portraits: dict[int, _Portrait] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Try:
    """An edit of one person that is tried: portrait `index` with these steps."""

    person: _Person
    index: int
    steps: Mapping[str, float]


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the portraits of each block of identities."""
    studio = Studio(run, device=rank_device(rank))
    table = read_identities(run)
    for work in rank.remaining(PortraitsUnit):
        block = range(work.unit.first, min(work.unit.last + 1, len(table.identities)))
        people = [
            _Person(identity=who, candidates=[table.identities[who].candidate, *table.identities[who].spares])
            for who in block
        ]
        counts = studio.photograph(people, work=work)
        with publishing_tar(work.path(work.unit.tar), record=work.record) as tar:
            for key, portrait, record in _in_order(people):
                jpeg = encode_jpeg(portrait.face, quality=studio.config.quality)
                tar.add(key, jpg=jpeg, record=record)
        if studio.config.originals:
            with publishing_tar(work.path(work.unit.originals), record=work.record) as originals:
                for key, portrait, record in _in_order(people):
                    assert portrait.original is not None
                    originals.add(key, jpg=portrait.original, record=record)
        work.done(images=tar.samples, counts=dict(sorted(counts.items())))


def _in_order(people: Sequence[_Person]) -> Iterator[tuple[str, _Portrait, dict[str, Any]]]:
    """The key, the portrait and the record of each portrait."""
    for person in people:
        for index, portrait in sorted(person.portraits.items()):
            request = ImageRequest(identity=person.identity, index=index)
            yield request.key, portrait, _record(person, index, portrait)


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

    def photograph(self, people: Sequence[_Person], *, work: Work[PortraitsUnit]) -> Counter[str]:
        """Fill the portraits of people; returns how many edits were accepted, halved and given up, and replacements.

        A person whose edits all failed is made again from its next spare candidate.
        """
        counts: Counter[str] = Counter()
        pending = list(people)
        while pending:
            self._round(pending, counts, work=work)
            pending = [person for person in pending if len(person.portraits) < 2 and len(person.candidates) > 1]
            for person in pending:
                person.candidates.pop(0)
                person.portraits.clear()
                counts["replaced"] += 1
        counts["short"] += sum(self.config.count - len(person.portraits) for person in people)
        return counts

    def _round(self, people: Sequence[_Person], counts: Counter[str], *, work: Work[PortraitsUnit]) -> None:
        """The first portrait of each person, then its edits, with smaller steps where they fail."""
        w = self.faces.latents([person.candidates[0] for person in people])
        latents = {person.identity: row for person, row in zip(people, w.cpu().numpy(), strict=True)}
        first, tries = {}, []
        for person, made in self._made([latents[one.identity] for one in people], people, work):
            first[person.identity] = made
            person.portraits[0] = made.portrait(steps={}, cosine=1.0)
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
        return after["face"] >= self.min_face and cosine >= self.min_cosine and moved

    def _made(
        self, latents: Sequence[np.ndarray], owners: Sequence[Any], work: Work[PortraitsUnit]
    ) -> Iterator[tuple[Any, _Made]]:
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
                    _Made(face=made.faces[row], original=original, embedding=made.embedding[row], measured=measured),
                )


def _record(person: _Person, index: int, portrait: _Portrait) -> dict[str, Any]:
    return {
        "identity": identity_name(person.identity),
        "index": index,
        "origin": SYNTHETIC,
        "candidate": person.candidates[0],
        "asked": {name: round(step, 3) for name, step in portrait.steps.items()},
        "measured": {name: round(value, 4) for name, value in portrait.measured.items()},
        "cosine": round(portrait.cosine, 4),
    }


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """One face of each identity as a tar of its own, and how far each attribute moved for its step."""
    folder = run.stage_folder(NAME)
    shards = ShardSet([folder.output(unit.tar) for unit in run.ledger.units(STAGE)])
    outputs: list[Output] = []
    steps: dict[str, list[float]] = {}
    moves: dict[str, list[float]] = {}
    before: dict[str, float] = {}
    people, edited = 0, []
    with publishing_tar(folder.output(FACES), record=outputs.append, replace=True) as tar:
        for row, record in enumerate(shards.records()):
            if record["index"] == 0:
                before, people = record["measured"], people + 1
                tar.add(record["identity"], jpg=shards.jpeg(row), record=record)
                continue
            edited.append(record["cosine"])
            for name, step in record["asked"].items():
                steps.setdefault(name, []).append(step)
                moves.setdefault(name, []).append(record["measured"][name] - before[name])
    figures: dict[str, Any] = {
        "identities": people,
        "portraits": len(shards),
        "cosine_to_unedited": {"mean": round(float(np.mean(edited)), 4) if edited else None, "images": len(edited)},
        "moved": {name: _slope(steps[name], moves[name]) for name in sorted(steps)},
    }
    return Finish(outputs=tuple(outputs), figures=figures)


def _slope(steps: Sequence[float], moves: Sequence[float]) -> dict[str, float]:
    """How much the attribute moves per standard deviation asked, and the correlation of both."""
    if len(steps) < 3 or np.std(steps) == 0 or np.std(moves) == 0:
        return {"per_step": 0.0, "correlation": 0.0}
    slope, correlation = np.polyfit(steps, moves, 1)[0], np.corrcoef(steps, moves)[0, 1]
    return {"per_step": round(float(slope), 4), "correlation": round(float(correlation), 4)}
