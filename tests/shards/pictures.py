"""Pictures and files to test with, all generated: no binary files in the repository."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.images.jpeg import encode_jpeg
from shards.tars.writer import TarWriter


def picture(seed: int = 0, *, size: tuple[int, int] = (112, 112)) -> Image.Image:
    """A smooth colored picture, different for each seed; `size` is (width, height)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def pixels(seed: int = 0, *, size: int = 112) -> np.ndarray:
    return np.asarray(picture(seed, size=(size, size)))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, *, size: int = 112) -> bytes:
    return encode_jpeg(pixels(seed, size=size), quality=95)


def with_exif(data: bytes, exif: bytes) -> bytes:
    """A JPEG with an APP1 block of any content."""
    block = b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def png_with_size(width: int, height: int) -> bytes:
    """A PNG whose header promises any size, with hardly any data behind it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def write_tar(path: Path, samples: list[tuple[str, str]], *, size: int = 32) -> Path:
    """A tar of (key, identity) samples; the picture follows from the position."""
    with path.open("wb") as file:
        tar = TarWriter(file)
        for index, (key, identity) in enumerate(samples):
            tar.add(key, jpg=jpeg(index, size=size), record={"identity": identity, "index": index})
        tar.close()
    return path


def random_features(count: int, *, seed: int = 0, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def unit_features(count: int, *, seed: int = 0, width: int = 16) -> np.ndarray:
    features = random_features(count, seed=seed, width=width)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
