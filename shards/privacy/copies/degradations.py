"""What blurring and shrinking leave of a reference: matrices from its cells to what is compared."""

from __future__ import annotations

import numpy as np
from PIL import Image

from shards.privacy.copies.pictures import SIDE
from shards.privacy.copies.views import GRID

SHRUNK = 8  # pixels of a picture's side at a quarter of its size


def blur_matrix(sigma: float) -> np.ndarray:
    """(400, 400) Gaussian blur of the cells; `sigma` in cells. Rows add up to 1, at the edges too."""
    places = np.arange(GRID)
    one = np.exp(-((places[:, None] - places) ** 2) / (2 * sigma**2))
    one /= one.sum(axis=1, keepdims=True)
    return np.kron(one, one)


def shrinking() -> np.ndarray:
    """(8, 32) weights that shrink one axis of a picture to a quarter, bicubic, as image libraries do."""
    return _resizing(SIDE, SHRUNK)


def unenlarging() -> np.ndarray:
    """(8, 32) weights that read one axis of the small picture from one that was enlarged again, bicubic."""
    return np.linalg.pinv(_resizing(SHRUNK, SIDE)).astype(np.float32)


def _resizing(before: int, after: int) -> np.ndarray:
    """(after, before) weights of the bicubic resizing of one axis."""
    rows = np.eye(before, dtype=np.float32)
    resized = [Image.fromarray(row[None]).resize((after, 1), Image.Resampling.BICUBIC) for row in rows]
    return np.stack([np.asarray(image)[0] for image in resized], axis=1)


def shrunk_matrix() -> np.ndarray:
    """(64, 400) the pixels of a picture at a quarter of its size, from the cells of the reference."""
    places = ((np.arange(SIDE) + 0.5) * GRID / SIDE - 0.5).clip(0, GRID - 1)
    left = np.minimum(places.astype(int), GRID - 2)
    enlarging = np.zeros((SIDE, GRID))
    enlarging[np.arange(SIDE), left] = 1 - (places - left)
    enlarging[np.arange(SIDE), left + 1] = places - left
    one = shrinking() @ enlarging
    return np.kron(one, one)
