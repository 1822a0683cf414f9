"""Where faces are in a photo: BlazeFace (Bazarevsky et al. 2019, arXiv 1907.05047), the full-range variant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cemiface.measures.net_cards import EMBEDDED, read_card
from cemiface.measures.runtimes import Runtime, open_net

SIDE, STRIDE = 192, 4  # pixels of the net's input, and of the cells that each predict a face
POINTS = 6  # right eye, left eye, nose, mouth, right ear, left ear
OVERLAP = 0.3  # intersection over union from which two boxes are of one face
INSIDE = 0.6  # of the smaller box, from which it is a part of the larger one's face
MAX_LOGIT = 100.0


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A face in a photo. Pixels; the points are right eye, left eye, nose, mouth, right ear, left ear (6, 2)."""

    score: float
    box: tuple[float, float, float, float]
    points: np.ndarray

    @property
    def side(self) -> float:
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def moved(self, x: float, y: float) -> Detection:
        """The same face in an image that this one is a part of, at (x, y)."""
        x0, y0, x1, y1 = self.box
        return Detection(score=self.score, box=(x0 + x, y0 + y, x1 + x, y1 + y), points=self.points + np.array([x, y]))


@dataclass(frozen=True, kw_only=True)
class FaceDetector:
    """The embedded net, ready to run."""

    runtime: Runtime

    def find(self, image: np.ndarray, *, at_least: float = 0.5, margin: float = 0.0) -> list[Detection]:
        """Faces of an image, uint8 (H, W, 3), the largest first.

        Args:
            at_least: the score, 0 to 1, that a face has to reach.
            margin: black border on each side, in parts of the longer side, for faces that fill the image.
        """
        height, width = image.shape[:2]
        side = max(height, width) * (1 + 2 * margin)
        left, top = (side - width) / 2, (side - height) / 2
        found = self.runtime.run(_letterbox(image, side=side, left=left, top=top))
        logits = found["Identity_1"].astype(np.float64).clip(-MAX_LOGIT, MAX_LOGIT)
        scores = 1 / (1 + np.exp(-logits))
        numbers = found["Identity"].reshape(len(scores), -1).astype(np.float64)
        cells = (np.arange(SIDE // STRIDE) + 0.5) * STRIDE
        places = np.stack([part.ravel() for part in np.meshgrid(cells, cells)], axis=1)
        kept = np.flatnonzero(scores >= at_least)
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        faces: list[Detection] = []
        for index in kept:
            face = _detection(
                numbers[index], places[index], score=float(scores[index]), zoom=side / SIDE, origin=(left, top)
            )
            if not any(overlap(face, other) for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: -face.side)


def open_detector() -> FaceDetector:
    """The embedded face detector."""
    return FaceDetector(runtime=open_net(read_card(EMBEDDED / "face_detector.json")))


def _letterbox(image: np.ndarray, *, side: float, left: float, top: float) -> np.ndarray:
    """The image in the middle of a black square, as the net takes it."""
    zoom = SIDE / side
    height, width = (max(1, round(length * zoom)) for length in image.shape[:2])
    x, y = round(left * zoom), round(top * zoom)
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), (x, y))
    return (np.asarray(square).astype(np.float32) / np.float32(127.5) - np.float32(1))[None]


def _detection(
    numbers: np.ndarray, place: np.ndarray, *, score: float, zoom: float, origin: tuple[float, float]
) -> Detection:
    """What a cell's 16 numbers say: middle and sides of the box and the points, relative to the cell."""
    middle, sides = place + numbers[:2], numbers[2:4]
    corners = (np.stack([middle - sides / 2, middle + sides / 2]) * zoom - origin).ravel()
    points = (numbers[4:].reshape(POINTS, 2) + place) * zoom - origin
    return Detection(score=score, box=(corners[0], corners[1], corners[2], corners[3]), points=points)


def overlap(one: Detection, other: Detection) -> bool:
    """Whether two boxes are of one face: by intersection over union, or one lies inside the other."""
    a, b = np.array(one.box), np.array(other.box)
    inside = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    areas = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()
    union, smaller = areas - inside, min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())
    return bool(inside >= OVERLAP * union or inside >= INSIDE * smaller)
