"""Portraits of given faces: a person's pictures, or other cuts of its only one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cemiface.measures.align import TEMPLATE_SIDE, Similarity, cut
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.given_pictures import GivenPictures
from jobs.methods.gandiffface.candidates.plan import FACE
from jobs.methods.gandiffface.identities.plan import MakeIdentities
from jobs.methods.gandiffface.identities.table import read_identities
from jobs.methods.gandiffface.measured_faces import FaceMeter
from jobs.methods.gandiffface.portraits.edits import cosines, drawn_steps
from jobs.methods.gandiffface.portraits.person import Made, Person
from jobs.methods.gandiffface.portraits.plan import MakePortraits, PortraitsUnit
from shards.embeddings.centers import directions as unit_rows
from shards.images.jpeg import encode_jpeg

# Largest changes of another cut: degrees, share of the size, pixels of the 112 px template. Within what aligners differ
# by (docs/attributes.md), so that a cut is still an aligned face.
CUTS = {"turn": 6.0, "zoom": 0.06, "right": 3.0, "down": 3.0}
WHOLE: Mapping[str, float] = {}  # the cut that changes nothing


@dataclass(frozen=True, kw_only=True)
class _View:
    """A picture, uint8 (H, W, 3), where its face is, and how the cut differs from that."""

    picture: np.ndarray
    place: Similarity
    cut: Mapping[str, float]

    def face(self, *, size: int) -> np.ndarray:
        return cut(self.picture, to_template=self.place.then(_moved(self.cut)), size=size)

    def original(self) -> np.ndarray:
        """The middle square of the picture, turned, zoomed and moved as the face is."""
        height, width = self.picture.shape[:2]
        side = min(height, width)
        corner = np.array([(width - side) / 2, (height - side) / 2])
        moved = self.place.then(_moved(self.cut)).then(self.place.inverse)
        scale = TEMPLATE_SIDE / side
        square = Similarity(matrix=np.eye(2) * scale, shift=-corner * scale)
        return cut(self.picture, to_template=moved.then(square), size=side)


class Album:
    """What takes portraits from given pictures."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.config, self.seed = run.section(MakePortraits), run.seed
        self.min_face = run.section(MakeIdentities).min_face
        self.pictures, self.meter = GivenPictures(run), FaceMeter(run, device=device)
        given = self.config.min_cosine
        self.min_cosine = read_identities(run).stranger_cosine if given is None else given

    def photograph(self, people: Sequence[Person], counts: Counter[str], *, work: Work[PortraitsUnit]) -> None:
        """The portraits of each person; the first is its picture nearest to the center of all, others follow in order.

        Kept are those with a face that is still the same identity.
        """
        for person in people:
            views = self._views(person.candidates[0], counts)
            made = self._made(views)
            work.progress(len(made))
            if not made:
                continue
            unit = unit_rows(np.stack([one.embedding for one in made]))
            first = 0 if self.pictures.given.people == "files" else int((unit @ unit.mean(axis=0)).argmax())
            order = [first, *(row for row in range(len(made)) if row != first)]
            for row in order:
                cosine = float(cosines(made[row].embedding[None], made[first].embedding[None])[0])
                if len(person.portraits) == self.config.count:
                    counts["not_needed"] += 1
                elif row != first and not self._accepted(made[row], cosine=cosine):
                    counts["given_up"] += 1
                else:
                    counts["accepted"] += row != first
                    person.portraits[len(person.portraits)] = made[row].portrait(cosine=cosine, cut=views[row].cut)

    def _accepted(self, made: Made, *, cosine: float) -> bool:
        return made.measured.get(FACE, 1.0) >= self.min_face and cosine >= self.min_cosine

    def _views(self, candidate: int, counts: Counter[str]) -> list[_View]:
        """The pictures of a candidate with a face; of a single one the cuts that portraits are made of."""
        found = []
        for picture in self.pictures.of(candidate).images:
            place = self._place(picture)
            if place is None:
                counts["no_face"] += 1
            elif self.pictures.given.people == "folders":
                found.append(_View(picture=picture, place=place, cut=WHOLE))
            else:
                cuts = drawn_steps(CUTS, portraits=self.config.count, seed=self.seed, candidate=candidate)
                found += [_View(picture=picture, place=place, cut=one) for one in cuts]
        return found

    def _place(self, picture: np.ndarray) -> Similarity | None:
        """The transform of a picture to the template; None without a face."""
        aligner = self.meter.cutter.aligner
        if aligner is None:
            return Similarity(matrix=np.eye(2) * TEMPLATE_SIDE / picture.shape[0], shift=np.zeros(2))
        return aligner.align(picture, size=self.meter.size).to_template

    def _made(self, views: Sequence[_View]) -> list[Made]:
        if not views:
            return []
        measured = self.meter.measured_faces(np.stack([view.face(size=self.meter.size) for view in views]))
        quality, originals = self.config.quality, self.config.originals
        return [
            Made(
                face=measured.faces[row],
                original=encode_jpeg(view.original(), quality=quality) if originals else None,
                embedding=measured.embedding[row],
                measured={name: float(column[row]) for name, column in measured.attributes.items()},
            )
            for row, view in enumerate(views)
        ]


def _moved(change: Mapping[str, float]) -> Similarity:
    """A change of the cut as a transform of the template around its middle."""
    turn, zoom = np.radians(change.get("turn", 0.0)), 1 + change.get("zoom", 0.0)
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.full(2, TEMPLATE_SIDE / 2)
    return Similarity(
        matrix=matrix, shift=middle - matrix @ middle + [change.get("right", 0.0), change.get("down", 0.0)]
    )
