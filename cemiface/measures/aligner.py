"""Photos to aligned faces: face detector, then landmarks of the face mesh, repeated on the straightened face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cemiface.measures.align import TEMPLATE, Similarity, cut, fit_similarity
from cemiface.measures.attributes import net_levels
from cemiface.measures.face_detector import Detection, FaceDetector, open_detector, overlap
from cemiface.measures.net_cards import EMBEDDED, AttributeNet, read_card
from cemiface.measures.runtimes import Runtime, open_net

ROUNDS = 8  # of landmarks, at most; two are usual, more follow a poor start
SETTLED = 0.5  # pixels of 112 that a round moves the landmarks by, at which no further one is needed
MARGINS = (0.0, 0.5)  # of the photo, in parts of its side: for faces far from its edge, and for faces that fill it
TILES = 3  # by `TILES`, each half of the photo wide; looked through only if the whole shows no face
MIN_PRESENCE = 0.5  # of the mesh net, that the found thing is a face
SECOND = 0.5  # of the largest face's side, from which another face makes it unclear whose photo it is
# The mesh's points of eyes, nose and mouth, and where they lie on aligned faces: medians of 1,400 faces of LFW that
# were aligned by another net's landmarks, moved so that their mean is the template's.
EYES, NOSE, MOUTH = ((33, 133), (362, 263)), 4, (61, 291)
POINTS = ((38.8, 53.6), (73.9, 53.4), (56.2, 72.9), (42.1, 91.3), (71.7, 90.8))

Outcome = Literal["aligned", "no_face", "many_faces"]


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What became of a photo.

    Attributes:
        face: uint8 (S, S, 3) on the ArcFace template; None unless the outcome is `aligned`.
        presence: of the mesh net, 0 to 1, that this is a face.
        to_template: from the photo's pixels to those of the 112 px template.
        detail: in words why there is no face.
    """

    outcome: Outcome
    face: np.ndarray | None = None
    presence: float = 0.0
    to_template: Similarity | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Aligner:
    """The nets, ready to run. A photo's result depends on that photo alone."""

    detector: FaceDetector
    net: AttributeNet
    mesh: Runtime

    def align(self, photo: np.ndarray, *, size: int) -> Aligned:
        """The face of a photo, uint8 (H, W, 3), RGB, upright; aligned to the ArcFace template at `size` px.

        A photo with a second face of at least half the size of the largest is `many_faces`: it is unclear whose it is.
        """
        found = [(face, *self.refine(photo, start=_from_detection(face))) for face in self._detections(photo)]
        faces = [(face, place, presence) for face, place, presence in found if presence >= MIN_PRESENCE]
        if not faces:
            return Aligned(outcome="no_face", detail="no face was found")
        first, place, presence = faces[0]
        others = sum(face.side >= SECOND * first.side for face, _, _ in faces[1:])
        if others:
            return Aligned(outcome="many_faces", detail=f"{1 + others} faces of similar size")
        face = cut(photo, to_template=place, size=size)
        return Aligned(outcome="aligned", face=face, presence=presence, to_template=place)

    def refine(self, photo: np.ndarray, *, start: Similarity) -> tuple[Similarity, float]:
        """The transform of a photo's face to the template, from a rough one; and the mesh net's presence of a face."""
        place, presence = start, 0.0
        for _ in range(ROUNDS):
            points, presence = self.landmarks(photo, place=place)
            old, place = place, fit_similarity(place.inverse(points), target=np.array(POINTS))
            if np.abs(place(old.inverse(TEMPLATE)) - TEMPLATE).max() < SETTLED:
                break
        return place, presence

    def landmarks(self, photo: np.ndarray, *, place: Similarity) -> tuple[np.ndarray, float]:
        """Eyes, nose, corners of the mouth (5, 2) in template pixels as `place` straightens the face; and presence."""
        square, form = self.net.card.square, self.net.card.input
        view = cut(photo, to_template=place, size=form.size, left=square.left, top=square.top, side=square.side)
        given = self.mesh.run(net_levels(view, form=form))
        points, face = (given[output.tensor].astype(np.float64) for output in self.net.card.outputs)
        mesh = points.reshape(-1, 3)[:, :2] * (square.side / form.size) + (square.left, square.top)
        five = [mesh[list(eye)].mean(0) for eye in EYES] + [mesh[NOSE]] + [mesh[corner] for corner in MOUTH]
        return np.stack(five), float(1 / (1 + np.exp(-face[0])))

    def _detections(self, photo: np.ndarray) -> list[Detection]:
        """Faces of a photo, the largest first; none twice."""
        found = [face for margin in MARGINS for face in self.detector.find(photo, margin=margin)]
        if not found:
            found = [face for tile in range(TILES**2) for face in self._in_tile(photo, tile=tile)]
        kept: list[Detection] = []
        for face in found:
            if not any(overlap(face, other) for other in kept):
                kept.append(face)
        return sorted(kept, key=lambda face: -face.side)

    def _in_tile(self, photo: np.ndarray, *, tile: int) -> list[Detection]:
        height, width = photo.shape[0] // 2, photo.shape[1] // 2
        y, x = (part * length // (TILES - 1) for part, length in zip(divmod(tile, TILES), (height, width), strict=True))
        if min(height, width) < 1:
            return []
        return [face.moved(x, y) for face in self.detector.find(photo[y : y + height, x : x + width])]


def open_aligner() -> Aligner:
    """The embedded nets, opened."""
    net = read_card(EMBEDDED / "face_mesh.json")
    return Aligner(detector=open_detector(), net=net, mesh=open_net(net))


def _from_detection(face: Detection) -> Similarity:
    """A first transform from the detector's eyes, nose and mouth."""
    goal = np.stack([*TEMPLATE[:3], TEMPLATE[3:].mean(0)])
    return fit_similarity(face.points[:4], target=goal)
