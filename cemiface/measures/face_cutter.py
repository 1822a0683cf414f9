"""Faces on the ArcFace template out of the pictures of a generator, so that all of them are measured alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cemiface.measures.aligner import Aligner, Outcome, open_aligner

FACE = "face"  # the attribute that says how sure it is that there is a face


@dataclass(frozen=True, kw_only=True)
class CutFaces:
    """Faces (N, S, S, 3) uint8, and what became of each picture; unless it is `aligned`, all of it stands there."""

    faces: np.ndarray
    outcomes: tuple[Outcome, ...]

    def presence(self, attributes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The attributes (N,) of the faces; where none was cut out, the attribute `face` is 0."""
        if FACE not in attributes:
            return dict(attributes)
        found = np.array([outcome == "aligned" for outcome in self.outcomes])
        return {**attributes, FACE: np.where(found, attributes[FACE], 0).astype(np.float32)}


@dataclass(frozen=True, kw_only=True)
class FaceCutter:
    """Cuts faces of `size` px. Without an aligner, the pictures are faces on the template already, of any size."""

    size: int
    aligner: Aligner | None = None

    def cut(self, pictures: Iterable[np.ndarray]) -> CutFaces:
        """The faces of pictures, uint8 (P, P, 3) each; a face depends on its picture alone."""
        found = [self._cut(picture) for picture in pictures]
        return CutFaces(faces=np.stack([face for face, _ in found]), outcomes=tuple(outcome for _, outcome in found))

    def _cut(self, picture: np.ndarray) -> tuple[np.ndarray, Outcome]:
        if self.aligner is None:
            return resized(picture, size=self.size), "aligned"
        found = self.aligner.align(picture, size=self.size)
        if found.face is None:
            return resized(picture, size=self.size), found.outcome
        return found.face, found.outcome


def open_face_cutter(*, size: int, aligned: bool) -> FaceCutter:
    """`aligned`: whether the pictures are faces on the template already."""
    return FaceCutter(size=size, aligner=None if aligned else open_aligner())


def resized(picture: np.ndarray, *, size: int) -> np.ndarray:
    """A square picture, uint8 (P, P, 3), at another size: bicubic, antialiased when it shrinks."""
    if picture.shape[0] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
