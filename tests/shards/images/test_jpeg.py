"""The address a JPEG is decoded to changes the time only, not the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg

from shards.images.jpeg import decode_rgb, empty_images

from ..pictures import encoded, jpeg, picture


@pytest.mark.parametrize("width", [16, 112, 128, 250])
def test_no_row_of_an_even_width_begins_where_the_decoder_would_write_past_the_cache(width):
    images = empty_images(3, 5, width, 3)
    assert (images.shape, images.dtype, images.flags.c_contiguous) == ((3, 5, width, 3), np.uint8, True)
    assert all(row.ctypes.data % 16 for image in images for row in image)


@pytest.mark.parametrize("data", [jpeg(3), encoded(picture(4), "JPEG", subsampling=2)], ids=["4:4:4", "4:2:0"])
def test_the_pixels_are_the_same_wherever_they_are_decoded_to(data):
    expected = simplejpeg.decode_jpeg(data, colorspace="RGB")
    np.testing.assert_array_equal(decode_rgb(data), expected)
    memory = np.empty(expected.size + 64, np.uint8)
    for start in range(33):
        out = memory[start : start + expected.size].reshape(expected.shape)
        assert decode_rgb(data, out=out).shape == expected.shape
        np.testing.assert_array_equal(out, expected)


def test_an_array_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="buffer"):
        decode_rgb(jpeg(3), out=np.empty(100, np.uint8))
