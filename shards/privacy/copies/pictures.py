"""The small gray pictures that the search for altered copies compares."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

SIDE = 32  # pixels of a picture's side; 1 kB per image in the fingerprint files

TURNS = 8  # quarter turns, and those of the mirror image

UNTURNED, MIRRORED = 0, 4


def gray_picture(rgb: np.ndarray) -> np.ndarray:
    """The (1024,) uint8 gray picture of an (H, W, 3) uint8 image: BT.601 luma, averaged over areas to 32 x 32."""
    gray = Image.fromarray(rgb).convert("L")
    small = gray if gray.size == (SIDE, SIDE) else gray.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.uint8).reshape(-1)


def gray_pictures(images: Iterable[np.ndarray]) -> np.ndarray:
    """(N, 1024) uint8 gray pictures of (H, W, 3) uint8 images; at least one."""
    return np.stack([gray_picture(rgb) for rgb in images])


def turned(pictures: np.ndarray, turn: int) -> np.ndarray:
    """Pictures (N, 32, 32) turned by `turn` % 4 quarters; from 4 on, the mirror images are."""
    sides = pictures[:, :, ::-1] if turn >= MIRRORED else pictures
    return np.rot90(sides, turn % 4, axes=(1, 2))
