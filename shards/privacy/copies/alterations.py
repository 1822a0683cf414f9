"""Alterations of real images, by which every audit measures what it finds. None of their results is published."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

Alteration = Callable[[Image.Image, random.Random], Image.Image]

UNITS = 32  # lengths are given for images of this width


def altered(rgb: np.ndarray, alteration: str, *, seed: str) -> np.ndarray:
    """An (H, W, 3) uint8 image, altered; equal seeds give equal images."""
    draw = random.Random(f"{seed}/{alteration}")
    return np.asarray(ALTERATIONS[alteration](Image.fromarray(rgb), draw).convert("RGB"))


def _encoded(quality: int) -> Alteration:
    def encode(image: Image.Image, draw: random.Random) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return encode


def _cropped(part: float, *, off_center: float = 0.0) -> Alteration:
    """Without `part` of the width; the center moves by `off_center` of what can be cropped on a side."""

    def crop(image: Image.Image, draw: random.Random) -> Image.Image:
        width, height = image.size
        x, y = width * part / 2, height * part / 2
        right, down = draw.choice((-1, 1)) * off_center * x, draw.choice((-1, 1)) * off_center * y
        box = (x + right, y + down, width - x + right, height - y + down)
        return image.resize(image.size, Image.Resampling.BICUBIC, box=box)

    return crop


def _shifted(units: float) -> Alteration:
    def shift(image: Image.Image, draw: random.Random) -> Image.Image:
        edge = round(units * image.width / UNITS)
        x, y = draw.choice(((edge, 0), (-edge, 0), (0, edge), (0, -edge), (edge, edge), (-edge, edge)))
        padded = np.pad(np.asarray(image), ((edge, edge), (edge, edge), (0, 0)), mode="edge")
        return Image.fromarray(padded[edge + y : edge + y + image.height, edge + x : edge + x + image.width])

    return shift


def _rotated(degrees: float) -> Alteration:
    return lambda image, draw: image.rotate(degrees * draw.choice((-1, 1)), Image.Resampling.BICUBIC)


def _turned(how: Image.Transpose) -> Alteration:
    return lambda image, draw: image.transpose(how)


def _blurred(units: float) -> Alteration:
    return lambda image, draw: image.filter(ImageFilter.GaussianBlur(units * image.width / UNITS))


def _noisy(levels: float) -> Alteration:
    def add(image: Image.Image, draw: random.Random) -> Image.Image:
        noise = np.random.default_rng(draw.getrandbits(32)).normal(0, levels, (image.height, image.width, 3))
        return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))

    return add


def _covered(part: str) -> Alteration:
    """A quarter (a square of half the width), a half, or the eyes, in black, gray or white."""

    def cover(image: Image.Image, draw: random.Random) -> Image.Image:
        pixels, gray = np.array(image), draw.choice((0, 128, 255))
        height, width = pixels.shape[:2]
        if part == "quarter":
            top, left = draw.randint(0, height // 2), draw.randint(0, width // 2)
            pixels[top : top + height // 2, left : left + width // 2] = gray
        elif part == "half":
            vertical, first = draw.random() < 0.5, draw.random() < 0.5
            length = height if vertical else width
            half = slice(0, length // 2) if first else slice(length // 2, length)
            pixels[(half, slice(None)) if vertical else (slice(None), half)] = gray
        else:
            pixels[round(height * 0.34) : round(height * 0.56)] = 0
        return Image.fromarray(pixels)

    return cover


def _quarter_size(image: Image.Image, draw: random.Random) -> Image.Image:
    small = image.resize((image.width // 4, image.height // 4), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _in_turn(*steps: Alteration) -> Alteration:
    def apply(image: Image.Image, draw: random.Random) -> Image.Image:
        for step in steps:
            image = step(image, draw)
        return image

    return apply


_MIRROR = _turned(Image.Transpose.FLIP_LEFT_RIGHT)

# What any audit must find: copies that nobody tried to hide.
PLAIN: dict[str, Alteration] = {
    "exact": lambda image, draw: image,
    "mirrored": _MIRROR,
    "re-encoded": _encoded(60),
}

# What the thorough audit must find beside them.
HIDDEN: dict[str, Alteration] = {
    "cropped by 10 %": _cropped(0.1),
    "cropped by 20 %": _cropped(0.2),
    "cropped by 30 %": _cropped(0.3),
    "cropped by 20 %, off center": _cropped(0.2, off_center=0.6),
    "shifted by 1/16": _shifted(2),
    "shifted by 1/8": _shifted(4),
    "rotated by 8 degrees": _rotated(8),
    "rotated by 15 degrees": _rotated(15),
    "rotated by 30 degrees": _rotated(30),
    "quarter turn": _turned(Image.Transpose.ROTATE_90),
    "half turn": _turned(Image.Transpose.ROTATE_180),
    "upside down": _turned(Image.Transpose.FLIP_TOP_BOTTOM),
    "blurred by 1/32": _blurred(1),
    "blurred by 2/32": _blurred(2),
    "blurred by 3/32": _blurred(3),
    "negative": lambda image, draw: ImageOps.invert(image),
    "brighter": lambda image, draw: ImageEnhance.Brightness(image).enhance(1.4),
    "darker": lambda image, draw: ImageEnhance.Brightness(image).enhance(0.6),
    "less contrast": lambda image, draw: ImageEnhance.Contrast(image).enhance(0.5),
    "gray": lambda image, draw: image.convert("L").convert("RGB"),
    "noise": _noisy(12),
    "a quarter covered": _covered("quarter"),
    "half covered": _covered("half"),
    "eyes covered": _covered("eyes"),
    "quarter size": _quarter_size,
    "JPEG quality 10": _encoded(10),
    "mirrored, cropped by 10 %, quality 30": _in_turn(_MIRROR, _cropped(0.1), _encoded(30)),
    "rotated by 8 degrees, noise, quality 30": _in_turn(_rotated(8), _noisy(8), _encoded(30)),
}

ALTERATIONS = PLAIN | HIDDEN

# A net that tells people apart recognizes these far more often than a random one, which finds the plain copies too.
MILD = ("cropped by 10 %", "rotated by 8 degrees", "brighter")
