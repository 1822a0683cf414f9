"""Decoding and encoding of JPEGs."""

from __future__ import annotations

import math

import numpy as np
import simplejpeg

CACHE_LINE = 64  # bytes


def decode_rgb(jpeg: bytes, *, out: np.ndarray | None = None) -> np.ndarray:
    """Decode a JPEG to (H, W, 3) uint8, into `out` if it is given (see `empty_images`); releases the GIL.

    Raises:
        ValueError: damaged data, also where libjpeg only warns and fills with gray; or `out` is too small.
    """
    if out is None:
        out = empty_images(*size_of(jpeg), 3)
    rgb: np.ndarray = simplejpeg.decode_jpeg(jpeg, colorspace="RGB", strict=True, buffer=out)
    return rgb


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Height and width of a JPEG, from its header; raises ValueError if it has none."""
    height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
    return int(height), int(width)


def encode_jpeg(rgb: np.ndarray, *, quality: int) -> bytes:
    """Encode (H, W, 3) uint8 without chroma subsampling: at face-crop sizes 4:2:0 visibly blurs lips and eyes."""
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(rgb), quality=quality, colorspace="RGB", colorsubsampling="444", fastdct=False
    )
    return jpeg


def empty_images(*shape: int) -> np.ndarray:
    """An uninitialized uint8 array into which JPEGs decode in two thirds of the usual time.

    Where a row begins at a multiple of 16 or 32 bytes, libjpeg-turbo writes it past the cache. At the width of a face
    that leaves cache lines half written, and the processor waits for memory on each. This array starts at an odd
    address, so no row of an even width begins at such a multiple. The pixels are the same.
    """
    size = math.prod(shape)
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE + 1
    return memory[start : start + size].reshape(shape)
