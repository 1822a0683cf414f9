"""Making the pictures of an identity with its adapter, for generate and refill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cemiface.gandiff.personal.adapters import AdapterPack
from cemiface.gandiff.personal.tuning import Adapters, new_adapters
from cemiface.pixels import to_unit_range
from jobs.frame.method import GeneratedImage, ImageRequest, identity_name
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.unit import SetUnit
from jobs.methods.gandiffface.generate.checks import Likeness, likeness, measured_field, reached_slots, why_left_out
from jobs.methods.gandiffface.generate.face_sampler import FaceSampler
from jobs.methods.gandiffface.generate.plan import OF_IDENTITY, GeneratePictures, prompts_of
from jobs.methods.gandiffface.identities.table import read_identities
from jobs.methods.gandiffface.personalize.plan import NAME as PERSONALIZE
from jobs.methods.gandiffface.personalize.plan import STAGE as PERSONALIZE_STAGE
from jobs.methods.gandiffface.personalize.plan import AdaptersUnit, Personalize
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.methods.gandiffface.portraits.plan import STAGE as PORTRAITS_STAGE
from jobs.methods.gandiffface.portraits.plan import PortraitsUnit
from jobs.stages.shared.embedding import load_embedder
from shards.images.jpeg import encode_jpeg
from shards.tars.records import SYNTHETIC
from shards.tars.shard_set import ShardSet

DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What pictures of an identity are made with: its adapter, its portraits' unit embeddings (P, E), its own slots."""

    number: int
    adapters: Adapters
    portraits: np.ndarray
    own: Mapping[str, str]
    prompts: Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Picture(GeneratedImage):
    """A picture of the set; `original` is the whole one as a JPEG, of which the face was cut out, if it is kept."""

    original: bytes | None


class PictureMaker:
    """The base, E_id and the attribute nets on one device."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.run, self.device, self.config = run, device, run.section(GeneratePictures)
        self.sampler, self.tuning = FaceSampler(run, device=device), run.section(Personalize).tuning
        self.embedder = load_embedder(run, device=device)
        self.table = read_identities(run)

    def identity(self, number: int) -> Identity | None:
        """An identity of the table; None if it has no adapter, as all its portraits failed."""
        name, folder = f"{number:06d}", self.run.stage_folder(PERSONALIZE)
        units = self.run.ledger.units(PERSONALIZE_STAGE)
        unit = next(one for one in units if isinstance(one, AdaptersUnit) and one.first <= number <= one.last)
        pack = AdapterPack(folder.output(unit.pack))
        if name not in pack.names:
            return None
        adapters = new_adapters(self.sampler.base, self.tuning, seeds=[0])
        adapters.load(0, pack.read(name))
        return Identity(
            number=number,
            adapters=adapters,
            portraits=self._portraits(number),
            own=self._own_slots(number),
            prompts=prompts_of(self.run, self.sampler.grammar, number),
        )

    def pictures(
        self, who: Identity, indices: Sequence[int], *, purpose: str, work: Work[SetUnit]
    ) -> tuple[dict[int, Picture], Counter[str]]:
        """The pictures of an identity that pass the checks, by index, and the outcomes of the others.

        A picture follows from (seed, purpose, identity, index, attempt) alone; failed ones are made again together.
        """
        found: dict[int, Picture] = {}
        reasons: dict[int, str] = {}
        left = list(indices)
        for attempt in range(self.config.attempts):
            for first in range(0, len(left), self.config.batch):
                part = left[first : first + self.config.batch]
                for image, reason in self._made(who, part, purpose=f"{purpose}, attempt {attempt}", work=work):
                    index = image.request.index
                    if reason is None:
                        found[index] = image
                    else:
                        reasons[index] = reason
            left = [index for index in left if index not in found]
        return found, Counter(reasons[index] for index in left)

    def _made(
        self, who: Identity, indices: Sequence[int], *, purpose: str, work: Work[SetUnit]
    ) -> Iterator[tuple[Picture, str | None]]:
        """A batch of pictures, each with the reason why it is not kept."""
        images = self.config.images_per_identity
        seeds = [derive(self.run.seed, purpose, who.number * images + index) for index in indices]
        asked = [{**who.own, **who.prompts[index]} for index in indices]
        with who.adapters.attached():
            tokens = who.adapters.tokens(len(indices))
            made = self.sampler.faces(asked, seeds=seeds, tokens=tokens, on_step=lambda step: work.progress(0))
        with torch.inference_mode():
            embedded = self.embedder(to_unit_range(made.faces, device=self.device)).float().cpu().numpy()
        for row, index in enumerate(indices):
            alike, values = likeness(embedded[row], who.portraits), made.values(row)
            reason = why_left_out(
                alike,
                face=values.get("face", 1.0),
                outcome=made.outcomes[row],
                min_face=self.config.min_face,
                cosine=self.config.cosine,
                max_portrait_cosine=self.config.max_portrait_cosine,
            )
            record = self._record(who, index, seed=seeds[row], asked=asked[row], alike=alike, values=values)
            request, original = ImageRequest(identity=who.number, index=index), None
            if self.config.originals and reason is None:
                original = encode_jpeg(made.pictures[row], quality=self.config.quality)
            yield Picture(request=request, jpeg=made.jpegs[row], record=record, original=original), reason

    def _record(
        self,
        who: Identity,
        index: int,
        *,
        seed: int,
        asked: Mapping[str, str],
        alike: Likeness,
        values: Mapping[str, float],
    ) -> dict[str, Any]:
        """The record of a picture; measured values are flat numbers, which may be published."""
        slots, grammar = self.sampler.base.slots, self.sampler.grammar
        reached = reached_slots(asked, values, slots=slots, grammar=grammar)
        measured = {measured_field(name): value for name, value in values.items()}
        return {
            "identity": identity_name(who.number),
            "index": index,
            "seed": seed,
            "origin": SYNTHETIC,
            "asked": dict(asked),
            "measured_cosine": round(alike.first, DIGITS),
            "center_cosine": round(alike.center, DIGITS),
            "nearest_portrait_cosine": round(alike.nearest, DIGITS),
            "missed_slots": list(reached.values()).count(False),
            **{name: round(value, DIGITS) for name, value in sorted(measured.items())},
        }

    def _own_slots(self, number: int) -> dict[str, str]:
        """The slots that are the identity's own, such as gender, by its measured attributes."""
        identity = self.table.identities[number]
        attributes = identity.attributes if identity else {}
        return {
            slot.name: value
            for slot in self.sampler.base.slots
            if slot.name in OF_IDENTITY
            and slot.attribute in attributes
            and (value := slot.value_of(attributes[slot.attribute])) is not None
        }

    def _portraits(self, number: int) -> np.ndarray:
        """Unit embeddings (P, E) of the portraits, the unedited one first."""
        units = self.run.ledger.units(PORTRAITS_STAGE)
        unit = next(one for one in units if isinstance(one, PortraitsUnit) and one.first <= number <= one.last)
        shards = ShardSet([self.run.stage_folder(PORTRAITS).output(unit.tar)])
        name = identity_name(number)
        faces = np.stack([shards.rgb(row) for row, one in enumerate(shards.identities) if one == name])
        shards.close()
        with torch.inference_mode():
            embedded = self.embedder(to_unit_range(faces, device=self.device)).float().cpu().numpy()
        unit_rows: np.ndarray = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
        return unit_rows


class PictureRemaker:
    """Makes pictures of the set again for the stage refill."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.maker = PictureMaker(run, device=device)

    def remake(
        self, requests: Sequence[ImageRequest], *, attempt: int, work: Work[SetUnit]
    ) -> Iterator[GeneratedImage]:
        """Pictures of the same prompts with other noise; those that pass no check are left out."""
        for number in sorted({request.identity for request in requests}):
            who = self.maker.identity(number)
            if who is None:
                continue
            indices = [request.index for request in requests if request.identity == number]
            for image in self.maker.pictures(who, indices, purpose=f"picture, refill {attempt}", work=work)[0].values():
                yield GeneratedImage(
                    request=image.request, jpeg=image.jpeg, record={**image.record, "attempt": attempt}
                )
