"""The pictures of given faces: read, with what is wrong with those that cannot be used."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cemiface.errors import ModelError
from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.given import FIELD, people_in
from jobs.methods.gandiffface.candidates.plan import NAME, STAGE, CandidatesUnit, MakeCandidates, face_size
from shards.images.faces import Face, UnreadableFaceError
from shards.images.outcomes import Outcome, RejectedImageError
from shards.images.prepare import upright_pixels
from shards.images.rules import ImageRules
from shards.sources.sources import open_pictures, read_checked, read_list


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The usable pictures of one person, uint8 (H, W, 3) each, with the sha256 of their files; outcomes of others."""

    images: list[np.ndarray] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    unusable: Counter[str] = field(default_factory=Counter)


class GivenPictures:
    """Reads the pictures of candidates by number."""

    def __init__(self, run: Run) -> None:
        config = run.section(MakeCandidates)
        assert config.faces is not None
        self.given, self.align = config.faces, config.align
        self.source = open_pictures(run.path(self.given.path))
        self.rules = ImageRules(size=face_size(run), resize="center")
        self.folder, self.units = run.stage_folder(NAME), run.ledger.units(STAGE)
        self._unit, self._people = -1, list[list[Face]]()  # read last

    def of_unit(self, unit: CandidatesUnit) -> list[list[Face]]:
        """The files of each candidate of a unit, as listed."""
        assert unit.faces is not None
        return people_in(read_list(self.folder.output(unit.list_name), sha256=unit.faces), self.given)

    def of(self, candidate: int) -> Pictures:
        """The pictures of a candidate."""
        number = next(number for number, unit in enumerate(self.units) if unit.start <= candidate < unit.stop)
        if number != self._unit:
            self._unit, self._people = number, self.of_unit(self.units[number])
        return self.read(self._people[candidate - self.units[number].start])

    def read(self, faces: Sequence[Face]) -> Pictures:
        """The pictures of one person's files."""
        found = Pictures()
        for face in faces:
            try:
                data = read_checked(self.source, face)
                image = upright_pixels(data, rules=self.rules)
                if not self.align and image.shape[0] != image.shape[1]:
                    raise RejectedImageError(Outcome.ASPECT, "not square, so that it is not aligned")
            except (RejectedImageError, UnreadableFaceError) as error:
                found.unusable[error.outcome.value] += 1
                continue
            found.images.append(image)
            found.hashes.append(hashlib.sha256(data).hexdigest())
        return found


def no_pictures(run: Run, unit: CandidatesUnit, unusable: Counter[str]) -> ModelError:
    """The error for a block of candidates without any usable picture."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(unusable.items()))
    given = run.section(MakeCandidates).faces
    return ModelError(
        f"{FIELD}: none of the {unit.pictures} pictures of candidates {unit.start} to {unit.stop - 1} in "
        f"{given.path if given else ''} can be used ({outcomes}); allowed: square aligned faces, or any with "
        f"{NAME}.align: true"
    )
