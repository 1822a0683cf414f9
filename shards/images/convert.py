"""Conversion of a file with a checked header to an upright, square RGB image."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from shards.images.jpeg import decode_rgb
from shards.images.pillow_errors import DAMAGE, rejected
from shards.images.rules import ImageRules

_TRANSPOSE = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, header: Image.Image) -> Image.Image:
    """Decode the whole file to RGB, in stored orientation.

    JPEGs go through the strict decoder, which reports damage that other decoders fill with gray. It cannot convert
    CMYK to RGB, so Pillow decodes those.

    Raises:
        RejectedImageError: the data is truncated or corrupt.
    """
    try:
        if header.format in ("JPEG", "MPO") and header.mode in ("RGB", "L"):
            return Image.fromarray(decode_rgb(data))
        header.load()
        return _to_rgb(header)
    except DAMAGE as error:
        raise rejected(error) from None


def upright(image: Image.Image, *, orientation: int | None) -> Image.Image:
    """The image with its EXIF orientation applied."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def square(image: Image.Image, *, rules: ImageRules) -> Image.Image:
    """Crop or pad to a square and scale to `rules.size`.

    Bicubic: Pillow widens its kernel with the scale, so that shrinking does not alias (Parmar et al., CVPR 2022).
    Lanczos is slightly sharper but rings around eyes and glasses, and a generator would learn the ringing.
    """
    size = (rules.size, rules.size)
    if image.size == size:
        return image
    if rules.resize == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BICUBIC, color=(0, 0, 0))
    return ImageOps.fit(image, size, Image.Resampling.BICUBIC)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion clips at 255 instead of scaling
        gray = np.asarray(image, dtype=np.int64).clip(0, 65535)
        return Image.fromarray(((gray + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")
