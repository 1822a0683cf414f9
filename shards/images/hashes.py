"""Hashes of decoded images."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image


def pixel_hash(rgb: np.ndarray) -> str:
    """SHA-256 (hex) of shape and pixels of an (H, W, 3) uint8 image, independent of how it was encoded."""
    return hashlib.sha256(f"{rgb.shape}".encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()


def perceptual_hash(rgb: np.ndarray) -> int:
    """256-bit difference hash of an (H, W, 3) uint8 image.

    A bit is set where a cell of the 16x17 luma thumbnail is darker than the cell to its right. The hash survives
    recompression, rescaling, noise and changes of brightness and contrast. The usual 64 bits do not tell aligned
    faces apart, which all look alike at 8x9 cells.
    """
    thumbnail = Image.fromarray(rgb).convert("L").resize((17, 16), Image.Resampling.BOX)
    cells = np.asarray(thumbnail, dtype=np.int16)
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")
