"""Every input image ends in one outcome of a closed list. Names carry the row of the bad-input matrix."""
# ruff: noqa: N802

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageEnhance

from shards.images.hashes import perceptual_hash, pixel_hash
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.images.outcomes import Outcome, Prepared
from shards.images.prepare import prepare
from shards.images.rules import ImageRules

from .. import bad_images
from ..pictures import encoded, jpeg, picture, pixels, png_with_size, with_exif

# pytest undoes the filter that the module sets for Pillow's remarks on damaged files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

NEVER = ImageRules(size=112)
CENTER = ImageRules(size=112, resize="center")
PAD = ImageRules(size=112, resize="pad")


def refused(data: bytes, outcome: Outcome, rules: ImageRules = CENTER) -> Prepared:
    prepared = prepare(data, rules=rules)
    assert prepared.outcome == outcome, prepared.detail
    assert prepared.jpeg is None
    assert "\n" not in prepared.detail
    return prepared


def converted(data: bytes, rules: ImageRules = CENTER) -> np.ndarray:
    prepared = prepare(data, rules=rules)
    assert prepared.outcome == Outcome.CONVERTED, prepared.detail
    assert prepared.jpeg is not None
    rgb = decode_rgb(prepared.jpeg)
    assert rgb.shape == (rules.size, rules.size, 3)
    return rgb


def assert_close(rgb: np.ndarray, expected: np.ndarray, levels: float = 3) -> None:
    assert np.abs(rgb.astype(float) - expected.astype(float)).mean() < levels


def test_a_fitting_jpeg_keeps_its_bytes():
    prepared = prepare(jpeg(), rules=NEVER)
    assert prepared == Prepared(outcome=Outcome.KEPT, jpeg=jpeg())


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "PPM"])
def test_other_allowed_formats_are_converted(kind):
    assert_close(converted(encoded(picture(), kind), NEVER), pixels(), levels=5)


def test_conversion_is_a_pure_function_of_bytes_and_rules():
    data = encoded(picture(size=(300, 200)), "PNG")
    assert prepare(data, rules=PAD) == prepare(data, rules=PAD)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_B01_truncated_jpeg_is_rejected(kept):
    refused(jpeg()[: int(len(jpeg()) * kept)], Outcome.TRUNCATED)


def test_B02_jpeg_cut_by_two_bytes_is_rejected():
    refused(jpeg()[:-2], Outcome.TRUNCATED)


def test_B03_jpeg_damaged_inside_is_rejected_where_pillow_would_paint_gray():
    damaged = bad_images.damaged_inside(jpeg())
    Image.open(io.BytesIO(damaged)).load()
    refused(damaged, Outcome.CORRUPT)


def test_B04_empty_files_are_rejected():
    refused(b"", Outcome.EMPTY)


@pytest.mark.parametrize("name", bad_images.not_images())
def test_B05_files_that_are_not_images_are_rejected_whatever_their_name(name):
    refused(bad_images.not_images()[name], Outcome.NOT_AN_IMAGE)


def test_B06_damaged_png_is_rejected():
    refused(bad_images.png_with_wrong_crc(), Outcome.CORRUPT)
    header_only = refused(encoded(picture(), "PNG")[:40], Outcome.CORRUPT)
    assert " at 0x" not in header_only.detail


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_B06_cut_png_is_rejected(kept):
    data = encoded(picture(), "PNG")
    refused(data[: int(len(data) * kept)], Outcome.TRUNCATED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM"])
def test_B07_gray_becomes_rgb(kind):
    rgb = converted(encoded(picture().convert("L"), kind))
    assert np.ptp(rgb, axis=2).max() <= 2


def test_B08_adobe_cmyk_jpeg_keeps_its_colors():
    rgb = converted(encoded(picture().convert("CMYK"), "JPEG", quality=95))
    assert_close(rgb, pixels(), levels=5)


@pytest.mark.parametrize("kind", ["png", "pgm"])
def test_B09_16_bit_gray_is_scaled_not_clipped(kind):
    values = bad_images.gray16()
    data = encoded(Image.fromarray(values), "PNG") if kind == "png" else bad_images.pgm16(values)
    assert_close(converted(data)[..., 0], values / 257, levels=1)


def test_B10_transparent_pixels_become_black():
    rgb = converted(bad_images.half_transparent())
    assert_close(rgb[:, :50], pixels()[:, :50])
    assert rgb[:, 62:].max() < 16


def test_B11_palette_with_transparency_goes_through_alpha():
    image = picture().quantize(8)
    transparent = np.asarray(image) == 3
    rgb = converted(encoded(image, "PNG", transparency=3))
    assert rgb[transparent].mean() < 40


@pytest.mark.parametrize("mode", ["P", "1"])
def test_B11_palette_and_one_bit_are_converted(mode):
    image = picture().convert(mode)
    assert_close(converted(encoded(image, "PNG")), np.asarray(image.convert("RGB")), levels=16)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_B12_animations_are_rejected(kind):
    refused(bad_images.animated(kind), Outcome.ANIMATED)


def test_a_multi_picture_jpeg_of_a_phone_is_its_first_picture():
    data = bad_images.phone_picture()
    prepared = prepare(data, rules=CENTER)
    assert prepared.jpeg is not None
    assert_close(decode_rgb(prepared.jpeg), pixels(), levels=6)


@pytest.mark.parametrize("name", bad_images.oddly_named_formats())
def test_B13_other_formats_are_rejected(name):
    refused(bad_images.oddly_named_formats()[name], Outcome.FORMAT)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_B14_exif_orientation_is_applied_and_metadata_dropped(orientation):
    data, upright = bad_images.turned(orientation)
    assert_close(converted(data, NEVER), np.asarray(upright))
    prepared = prepare(data, rules=NEVER)
    assert prepared.jpeg is not None
    assert not Image.open(io.BytesIO(prepared.jpeg)).getexif()


def test_B14_upright_exif_is_kept():
    data, _ = bad_images.turned(1)
    assert prepare(data, rules=NEVER).outcome == Outcome.KEPT


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + b"\x12" * 40])
def test_B14_malformed_exif_does_not_crash(exif):
    assert prepare(with_exif(jpeg(), exif), rules=NEVER).outcome in (Outcome.KEPT, Outcome.CONVERTED)


@pytest.mark.parametrize("side", [6400, 9500, 20_000, 2**31 - 1])
def test_B15_decompression_bombs_are_too_large(side):
    outcome = prepare(png_with_size(side, side), rules=CENTER).outcome
    assert outcome == Outcome.TOO_LARGE


def test_B15_a_bomb_is_refused_before_memory_is_taken():
    code = (
        "import resource, sys\n"
        "from shards.images.prepare import prepare\nfrom shards.images.rules import ImageRules\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000,) * 2)\n"
        "print(prepare(sys.stdin.buffer.read(), rules=ImageRules(size=112)).outcome)\n"
    )
    bomb = encoded(Image.new("1", (9500, 9500)), "PNG")
    assert len(bomb) < 20_000
    done = subprocess.run([sys.executable, "-c", code], input=bomb, capture_output=True, check=True)
    assert done.stdout.decode().strip() == Outcome.TOO_LARGE


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (27, 27)])
def test_B16_tiny_images_are_too_small(size):
    refused(encoded(picture(size=size), "PNG"), Outcome.TOO_SMALL)


def test_B16_long_images_have_the_wrong_aspect():
    refused(encoded(picture(size=(100, 2000)), "PNG"), Outcome.ASPECT)


@pytest.mark.parametrize("size", [(92, 112), (113, 112), (224, 224)])
def test_B17_wrong_size_is_refused_unless_resizing_was_asked_for(size):
    data = encoded(picture(size=size), "PNG")
    assert "resize" in refused(data, Outcome.WRONG_SIZE, NEVER).detail
    converted(data, CENTER)
    converted(data, PAD)


def test_center_cuts_and_pad_adds_black_borders():
    data = encoded(picture(size=(224, 112)), "PNG")
    middle = np.asarray(picture(size=(224, 112)))[:, 56:168]
    assert_close(converted(data, CENTER), middle)
    padded = converted(data, PAD)
    assert padded[:20].max() < 16
    assert padded[84 + 8 :].max() < 16
    assert padded[40:70].mean() > 50


def test_resizing_does_not_alias():
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, ::2] = 255
    rgb = converted(encoded(Image.fromarray(stripes), "PNG"), CENTER)
    assert rgb.std() < 3


def test_B18_images_without_a_face_are_kept():
    """A checkerboard is kept like any image: there is no face detection, as docs/data.md states."""
    squares = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((14, 14)))[..., None] * (255, 128, 0)
    data = encode_jpeg(squares.astype(np.uint8), quality=95)
    assert prepare(data, rules=NEVER) == Prepared(outcome=Outcome.KEPT, jpeg=data)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
def test_B19_one_color_is_blank(color):
    for kind in ("PNG", "JPEG"):
        refused(encoded(Image.new("RGB", (112, 112), color), kind), Outcome.BLANK)


def test_B20_equal_pixels_have_equal_hashes_however_encoded():
    from_png = np.asarray(Image.open(io.BytesIO(encoded(picture(), "PNG"))))
    assert pixel_hash(from_png) == pixel_hash(pixels())
    assert pixel_hash(pixels()) != pixel_hash(pixels(1))
    assert pixel_hash(np.zeros((2, 8, 3), np.uint8)) != pixel_hash(np.zeros((4, 4, 3), np.uint8))


def test_B20_near_duplicates_have_near_hashes():
    image = picture()
    variants = [
        decode_rgb(encode_jpeg(pixels(), quality=30)),
        np.asarray(image.resize((64, 64)).resize((112, 112))),
        np.asarray(ImageEnhance.Contrast(image).enhance(0.85)),
    ]
    for variant in variants:
        assert (perceptual_hash(variant) ^ perceptual_hash(pixels())).bit_count() <= 24
    assert (perceptual_hash(pixels(1)) ^ perceptual_hash(pixels())).bit_count() > 60


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 4}])
def test_B01_B02_B03_the_quick_check_refuses_exactly_what_a_full_decode_refuses(options):
    """They also agreed on 30,000 damaged crops of real faces."""
    whole = encoded(picture(), "JPEG", quality=90, **options)
    assert prepare(whole, rules=NEVER) == Prepared(outcome=Outcome.KEPT, jpeg=whole)
    rng, refusals = np.random.default_rng(1), 0
    for _ in range(400):
        data = bytearray(whole)
        for at in rng.integers(len(data) // 4, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        data = data[: rng.choice([len(data), rng.integers(200, len(data))])]
        refused_by = []
        for scaled in ({"colorspace": "RGB"}, {"colorspace": "GRAY", "min_height": 1, "min_width": 1}):
            try:
                simplejpeg.decode_jpeg(bytes(data), strict=True, **scaled)
            except ValueError:
                refused_by.append(scaled)
        assert len(refused_by) in (0, 2)
        refusals += bool(refused_by)
        assert bool(refused_by) == (prepare(bytes(data), rules=NEVER).outcome != Outcome.KEPT)
    assert 50 < refusals < 400


def test_a_fine_pattern_that_vanishes_when_scaled_down_is_not_blank():
    checks = np.indices((112, 112)).sum(0) % 2 * 90 + 80
    data = encode_jpeg(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), quality=95)
    assert prepare(data, rules=NEVER).outcome == Outcome.KEPT


def test_mutated_files_always_end_in_an_outcome():
    """Damage at random places of every format; an exception would kill a whole shard."""
    files = [jpeg(), encoded(picture(), "PNG"), encoded(picture(), "WEBP"), encoded(picture(), "PPM")]
    rng = np.random.default_rng(0)
    for round_ in range(600):
        data = bytearray(files[round_ % len(files)])
        for at in rng.integers(0, rng.choice([40, 400, len(data)]), 3):
            data[at] = rng.integers(0, 256)
        prepared = prepare(bytes(data[: rng.integers(1, 2 * len(data))]), rules=CENTER)
        assert (prepared.jpeg is not None) == (prepared.outcome in (Outcome.KEPT, Outcome.CONVERTED))


def test_colors_survive_encoding_without_subsampling():
    red_and_blue = np.zeros((32, 32, 3), np.uint8)
    red_and_blue[:, ::2, 0] = 255
    red_and_blue[:, 1::2, 2] = 255
    assert_close(decode_rgb(encode_jpeg(red_and_blue, quality=95)), red_and_blue, levels=4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 0), ("resize", "stretch"), ("quality", 101), ("max_pixels", 100), ("max_pixels", 2**40)],
)
def test_rules_refuse_impossible_values(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: got .*{value}"):
        ImageRules(**{"size": 112, field: value})
