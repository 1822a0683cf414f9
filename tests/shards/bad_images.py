"""Generated bad files, one for each row of the bad-input matrix."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .pictures import encoded, jpeg, picture


def damaged_inside(data: bytes, *, count: int = 60) -> bytes:
    """Overwrite bytes in the middle of a JPEG's compressed data."""
    middle = len(data) // 2
    noise = np.random.default_rng(7).integers(0, 256, count, dtype=np.uint8).tobytes()
    return data[:middle] + noise + data[middle + count :]


def png_with_wrong_crc() -> bytes:
    data = bytearray(encoded(picture(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def gray16() -> np.ndarray:
    """(112, 112) uint16 with a mean near 122 * 257."""
    ramp = np.linspace(60, 184, 112)[:, None] + np.linspace(-40, 40, 112)
    return (ramp * 257).astype(np.uint16)


def pgm16(values: np.ndarray) -> bytes:
    height, width = values.shape
    return f"P5\n{width} {height}\n65535\n".encode() + values.astype(">u2").tobytes()


def half_transparent() -> bytes:
    image = picture().convert("RGBA")
    alpha = np.full((112, 112), 255, np.uint8)
    alpha[:, 56:] = 0
    image.putalpha(Image.fromarray(alpha))
    return encoded(image, "PNG")


def animated(kind: str) -> bytes:
    return encoded(picture(0), kind, save_all=True, append_images=[picture(1)])


def turned(orientation: int) -> tuple[bytes, Image.Image]:
    """A JPEG stored rotated with the EXIF orientation set, and the upright image."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = picture(3)
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif), upright


def phone_picture() -> bytes:
    """A multi-picture JPEG (MPO), as phones write them: one image and a preview."""
    buffer = io.BytesIO()
    picture(0).save(buffer, "MPO", save_all=True, append_images=[picture(1)])
    return buffer.getvalue()


def oddly_named_formats() -> dict[str, bytes]:
    """Real images of formats that are not allowed."""
    gray = picture().convert("L")
    return {
        "tiff": encoded(picture(), "TIFF"),
        "float tiff": encoded(gray.convert("F"), "TIFF"),
        "bmp": encoded(picture(), "BMP"),
        "gif": encoded(gray, "GIF"),
        "animated gif": animated("GIF"),
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99),
        "heic": b"\0\0\0\x18ftypheic" + bytes(99),
        "plain pgm": b"P2\n2 2\n255\n0 1 2 3\n",
        "hdr": b"#?RADIANCE\n",
    }


def not_images() -> dict[str, bytes]:
    return {
        "html": b"<!DOCTYPE html><title>404</title>",
        "text": b"image",
        "pickle": b"\x80\x04\x95.",
        "lfs pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "riff but no webp": b"RIFF\x10\0\0\0WAVEfmt ",
        "one byte": b"\xff",
        "reversed jpeg": jpeg()[::-1],
    }
