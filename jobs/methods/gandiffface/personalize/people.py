"""What is learned from: the portraits of identities with what they show, and class pictures by the base itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cemiface.errors import ModelError
from cemiface.gandiff.base import Asked, Base, Sampling, sampled
from cemiface.gandiff.personal.config import PersonalConfig
from cemiface.gandiff.personal.tuning import Person, Pictures
from cemiface.gandiff.slots import MIRRORED, Slot
from cemiface.measures.face_cutter import resized
from cemiface.pixels import to_unit_range
from jobs.frame.method import identity_name
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.methods.gandiffface.portraits.plan import STAGE as PORTRAITS_STAGE
from jobs.methods.gandiffface.portraits.plan import MakePortraits
from shards.tars.shard_set import ShardSet

CLASS_SLOTS = ("gender", "age")  # of a demographic group
CLASS_BATCH = 8


def stated(slots: Sequence[Slot], measured: Mapping[str, float], *, mirror: bool = False) -> dict[str, str]:
    """The values of slots that measured attributes of a face fall into, or those of its mirror image."""
    found = {}
    for slot in slots:
        if slot.attribute in measured:
            sign = -1 if mirror and slot.attribute in MIRRORED else 1
            value = slot.value_of(sign * measured[slot.attribute])
            if value is not None:
                found[slot.name] = value
    return found


class Portraits:
    """The portraits of the run, read one identity at a time."""

    def __init__(self, run: Run, base: Base, *, device: torch.device) -> None:
        self.slots, self.size, self.aligned, self.device = base.slots, base.image_size, base.aligned, device
        self.originals = run.section(MakePortraits).originals and not base.aligned
        self.folder, self.units = run.stage_folder(PORTRAITS), run.ledger.units(PORTRAITS_STAGE)

    def of(self, identities: Sequence[int]) -> dict[int, tuple[Pictures, list[dict[str, Any]]]]:
        """The portraits of some identities in their order, and their records; identities without any are left out.

        Raises:
            ModelError: portraits of another size than those of a base that makes aligned faces.
        """
        found = {}
        for unit in self.units:
            here = [one for one in identities if unit.first <= one <= unit.last]
            if not here:
                continue
            shards = ShardSet([self.folder.output(unit.tar)])
            originals = ShardSet([self.folder.output(unit.originals)]) if self.originals else shards
            for identity in here:
                name = identity_name(identity)
                rows = [row for row, one in enumerate(shards.identities) if one == name]
                if rows:
                    records = [shards.record(row) for row in rows]
                    pictures = [originals.rgb(row) for row in rows]  # of the same keys in the same order
                    found[identity] = (self._pictures([shards.rgb(row) for row in rows], pictures, records), records)
            shards.close()
            originals.close()
        return found

    def _pictures(
        self, faces: Sequence[np.ndarray], pictures: Sequence[np.ndarray], records: Sequence[Mapping[str, Any]]
    ) -> Pictures:
        """`faces` are what is measured, `pictures` what is learned from."""
        if self.aligned and faces[0].shape[0] != self.size:
            raise ModelError(
                f"{PORTRAITS}: portraits are {faces[0].shape[0]} px, the base makes {self.size} px; train or give a "
                "base of the size of the portraits"
            )
        asked = [stated(self.slots, record["measured"]) for record in records]
        aligned = to_unit_range(np.stack(faces), device=self.device)
        if self.aligned:
            return Pictures(images=aligned, asked=asked)
        learned = np.stack([resized(picture, size=self.size) for picture in pictures])
        return Pictures(images=to_unit_range(learned, device=self.device), asked=asked, faces=aligned)

    def mirrored(self, pictures: Pictures, records: Sequence[Mapping[str, Any]]) -> Pictures:
        """The pictures followed by their mirror images."""
        asked = [stated(self.slots, record["measured"], mirror=True) for record in records]
        images, faces = (
            None if one is None else torch.cat([one, one.flip(3)]) for one in (pictures.images, pictures.faces)
        )
        assert images is not None
        return Pictures(images=images, asked=[*pictures.asked, *asked], faces=faces)


class ClassPictures:
    """Pictures by the base itself of each demographic group, for prior preservation; made once per rank and group."""

    def __init__(self, base: Base, sampling: Sampling, *, count: int, seed: int, progress: Callable[[], None]) -> None:
        self.base, self.sampling, self.count, self.seed, self.progress = base, sampling, count, seed, progress
        self._made: dict[str, Pictures] = {}

    def of(self, group: Asked) -> Pictures:
        """The pictures of a group, which follow from the run's seed and the group alone."""
        name = ", ".join(f"{slot} {value}" for slot, value in sorted(group.items()))
        if name not in self._made:
            self._made[name] = Pictures(images=self._sampled(group, name), asked=[group] * self.count)
        return self._made[name]

    def _sampled(self, group: Asked, name: str) -> torch.Tensor:
        seeds = [derive(self.seed, f"class picture, {name}", number) for number in range(self.count)]
        noise = torch.stack([torch.randn(self.base.shape, generator=torch.Generator().manual_seed(s)) for s in seeds])
        parts = []
        for first in range(0, self.count, CLASS_BATCH):
            self.progress()
            part = noise[first : first + CLASS_BATCH].to(self.base.token.device)
            with torch.no_grad():
                faces = sampled(self.base, [group] * len(part), noise=part, tokens=None, sampling=self.sampling)
            parts.append(faces.clamp(-1, 1))
        return torch.cat(parts)


def group_of(asked: Sequence[Asked]) -> dict[str, str]:
    """The demographic group of an identity: the most frequent value of each slot among its portraits."""
    found = {}
    for slot in CLASS_SLOTS:
        values = sorted(one[slot] for one in asked if slot in one)
        if values:
            found[slot] = max(values, key=values.count)
    return found


def person_of(
    identity: int,
    pictures: Pictures,
    records: Sequence[Mapping[str, Any]],
    *,
    portraits: Portraits,
    classes: ClassPictures,
    config: PersonalConfig,
    seed: int,
) -> Person:
    """An identity to learn. The last portraits are held out; a single portrait is learned and held out."""
    held = min(config.held_out, max(1, len(pictures) - 1))
    kept = max(1, len(pictures) - held)
    training, last = pictures.part(slice(kept)), pictures.part(slice(len(pictures) - held, None))
    return Person(
        name=f"{identity:06d}",
        training=portraits.mirrored(training, records[:kept]),
        held_out=last if held else None,
        class_pictures=classes.of(group_of(pictures.asked)) if config.prior_weight else None,
        seed=derive(seed, "personalize", identity),
    )
