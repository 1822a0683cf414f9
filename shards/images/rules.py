"""The requirements that an input image has to meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PILLOW_PIXELS = 178_000_000  # above this Pillow itself refuses to open an image


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """Requirements for input images.

    Args:
        size: side of the square output, pixels, 8 to 4096.
        resize: `never` rejects other sizes (for crops that are aligned already); `center` crops the central square,
            `pad` adds black borders, then both scale.
        quality: JPEG quality of converted images, 1 to 100.
        max_pixels: images with a larger width times height are rejected before decoding.

    Raises:
        ValueError: a value is out of range.
    """

    size: int
    resize: Literal["never", "center", "pad"] = "never"
    quality: int = 95
    max_pixels: int = 40_000_000

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise ValueError(f"size: got {self.size}, allowed are 8 to 4096 pixels")
        if self.resize not in ("never", "center", "pad"):
            raise ValueError(f"resize: got {self.resize!r}, allowed are never, center and pad")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: got {self.quality}, allowed are 1 to 100")
        if not self.size**2 <= self.max_pixels <= PILLOW_PIXELS:
            raise ValueError(f"max_pixels: got {self.max_pixels}, allowed are size x size to {PILLOW_PIXELS}")
