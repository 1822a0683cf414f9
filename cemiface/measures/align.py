"""Alignment to the ArcFace template: similarity transforms (Umeyama 1991), and images cut along them.

A point is (x, y) in pixels with the image's upper left corner at (0, 0), so that a pixel's middle is at +0.5 and points
scale with the image. Template coordinates are those of the 112 px template.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

TEMPLATE_SIDE = 112
# Of ArcFace (Deng et al. 2019): right eye, left eye, tip of the nose, right and left corner of the mouth. Published for
# coordinates that count from a pixel's middle, hence + 0.5.
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
TEMPLATE = TEMPLATE + 0.5
BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Points to points: rotation and scale (2, 2), then shift (2)."""

    matrix: np.ndarray
    shift: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2), moved."""
        moved: np.ndarray = points @ self.matrix.T + self.shift
        return moved

    def then(self, other: Similarity) -> Similarity:
        """This one, followed by another."""
        return Similarity(matrix=other.matrix @ self.matrix, shift=other.matrix @ self.shift + other.shift)

    @property
    def scale(self) -> float:
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    @property
    def inverse(self) -> Similarity:
        matrix = np.linalg.inv(self.matrix)
        return Similarity(matrix=matrix, shift=-matrix @ self.shift)


def fit_similarity(source: np.ndarray, *, target: np.ndarray) -> Similarity:
    """The rotation, scale and shift that bring points (N, 2) closest to the target's in the least-squares sense.

    Umeyama 1991, equations 40 to 42; no reflection. Raises ValueError if all points are one.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    middle, goal = source.mean(0), target.mean(0)
    a, b = source - middle, target - goal
    spread = float((a**2).sum())
    if not spread > 0:
        raise ValueError(f"points: got {len(source)} at one place; allowed: two places or more")
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    matrix = (u * sign) @ vt * float((s * sign).sum()) / spread
    return Similarity(matrix=matrix, shift=goal - matrix @ middle)


def cut(
    image: np.ndarray,
    *,
    to_template: Similarity,
    size: int,
    left: float = 0.0,
    top: float = 0.0,
    side: float = TEMPLATE_SIDE,
) -> np.ndarray:
    """A square of the template, uint8 (size, size, 3), out of an image, uint8 (H, W, 3).

    Outside of the image its edge is repeated. Where the image is finer than the result it is first shrunk to at most
    twice the result's resolution with a kernel as wide as the scale asks for, so that nothing aliases.
    """
    back = to_template.inverse
    scale = side / size  # template pixels in one of the result's
    matrix, shift = back.matrix * scale, back.matrix @ np.array([left, top]) + back.shift
    finer = float(np.sqrt(abs(np.linalg.det(matrix))))  # image pixels in one of the result's
    over = 2 if finer > 1 else 1
    corners = np.array([(0, 0), (size, 0), (0, size), (size, size)]) @ matrix.T + shift
    (x0, y0), (x1, y1) = np.floor(corners.min(0)).astype(int) - 3, np.ceil(corners.max(0)).astype(int) + 3
    region, origin = _region(image, (x0, y0, x1, y1)), np.array([x0, y0], dtype=np.float64)
    shrink = np.ones(2)
    if finer > over:
        small = [max(1, round(length * over / finer)) for length in region.size]
        shrink = np.array(small) / region.size
        region = region.resize((small[0], small[1]), BICUBIC)
    matrix, shift = matrix / over * shrink[:, None], (shift - origin) * shrink
    row = (*matrix[0], shift[0], *matrix[1], shift[1])
    made = region.transform((size * over, size * over), Image.Transform.AFFINE, row, BICUBIC)
    return np.asarray(made if over == 1 else made.resize((size, size), BICUBIC))


def _region(image: np.ndarray, box: tuple[int, int, int, int]) -> Image.Image:
    """A part of an image, with its edge repeated outside of it."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    columns, rows = np.arange(x0, x1).clip(0, width - 1), np.arange(y0, y1).clip(0, height - 1)
    return Image.fromarray(np.ascontiguousarray(image[rows[:, None], columns[None, :]]))
