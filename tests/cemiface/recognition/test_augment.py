from __future__ import annotations

import colorsys
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cemiface.recognition.augment import DRAWS, augment, crop, erase_, recolor
from cemiface.recognition.config import AugmentConfig

CONFIG = AugmentConfig()
OFF = AugmentConfig(crop_probability=0, color_probability=0, erase_probability=0)


@pytest.fixture
def images(draw: torch.Generator) -> Tensor:
    coarse = torch.rand(6, 3, 5, 5, generator=draw) * 2 - 1
    return F.interpolate(coarse, size=(24, 24), mode="bilinear")


@pytest.fixture
def uniform(draw: torch.Generator) -> Tensor:
    return torch.rand(6, DRAWS, generator=draw)


def test_augmentation_of_an_image_does_not_depend_on_its_batch(images, uniform):
    whole = augment(images, uniform, config=CONFIG)
    for index in ([3], [5, 0], [2, 1, 4]):
        part = augment(images[index], uniform[index], config=CONFIG)
        torch.testing.assert_close(part, whole[index], atol=1e-6, rtol=0)


def test_the_same_numbers_give_the_same_bits(images, uniform):
    state = torch.get_rng_state()
    assert torch.equal(augment(images, uniform, config=CONFIG), augment(images, uniform, config=CONFIG))
    assert torch.equal(torch.get_rng_state(), state)


def test_other_numbers_give_other_images(images, uniform):
    one = images[:1].expand(6, -1, -1, -1)
    out = augment(one, uniform, config=CONFIG)
    assert all(not torch.allclose(out[0], out[i], atol=1e-3) for i in range(1, 6))


def test_images_stay_in_range(images, draw):
    for _ in range(5):
        out = augment(images.sign(), torch.rand(6, DRAWS, generator=draw), config=CONFIG)
        assert out.abs().max() <= 1 + 1e-6


def test_probability_zero_changes_nothing(images, uniform):
    torch.testing.assert_close(augment(images, uniform, config=OFF), images, atol=1e-6, rtol=0)


def test_each_augmentation_is_applied_with_its_probability(draw):
    x = torch.rand(2000, 3, 8, 8, generator=draw) * 2 - 1
    uniform = torch.rand(2000, DRAWS, generator=draw)
    for field in ("crop_probability", "color_probability", "erase_probability"):
        config = OFF.model_copy(update={field: 0.3})
        changed = (augment(x, uniform, config=config) - x).abs().flatten(1).amax(1) > 1e-4
        assert changed.float().mean().item() == pytest.approx(0.3, abs=0.05), field


def test_a_crop_is_the_named_square_enlarged():
    """A ramp shows where the crop was: the draws 0.25 and 1 put it left of the middle and at the bottom."""
    config = AugmentConfig(crop_area=(0.5, 0.5))
    ramp = torch.linspace(-1, 1, 65)[1:] - 1 / 64  # the pixels' centers in coordinates of -1 to 1
    x = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64)])[None]
    out = crop(x, torch.tensor([[0.0, 0.3, 0.25, 1.0]]), config=config)[0]
    side = math.sqrt(0.5)
    inner = slice(1, -1)  # beyond the outermost center there is no ramp
    torch.testing.assert_close(out[0, 10, inner], (side * ramp - 0.5 * (1 - side))[inner], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[1, inner, 10], (side * ramp + (1 - side))[inner], atol=1e-5, rtol=0)


def color(fields: dict[str, float], draws: list[float]) -> tuple[Tensor, Tensor]:
    """Colors (64, 3) in [0, 1], far from clipping, before and after."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 8, 8, generator=draw) * 0.4 - 0.2
    zero = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    out = recolor(x, torch.tensor([[0.0, *draws]]), config=AugmentConfig.model_validate(zero | fields))
    return tuple(((image[0].flatten(1).T + 1) / 2).double() for image in (x, out))


LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def test_brightness_multiplies():
    before, after = color({"brightness": 0.1}, [1.0, 0.5, 0.5, 0.5])
    torch.testing.assert_close(after, 1.1 * before, atol=1e-5, rtol=0)


def test_contrast_scales_the_distance_to_the_mean_gray():
    before, after = color({"contrast": 0.1}, [0.5, 0.0, 0.5, 0.5])
    mean = (before @ LUMA).mean()
    torch.testing.assert_close(after, mean + 0.9 * (before - mean), atol=1e-5, rtol=0)


def test_saturation_scales_the_distance_to_the_pixels_gray():
    before, after = color({"saturation": 0.1}, [0.5, 0.5, 1.0, 0.5])
    gray = (before @ LUMA)[:, None]
    torch.testing.assert_close(after, gray + 1.1 * (before - gray), atol=1e-5, rtol=0)


def test_brightness_comes_before_contrast():
    before, after = color({"brightness": 0.2, "contrast": 0.2}, [1.0, 0.0, 0.5, 0.5])
    bright = 1.2 * before
    mean = (bright @ LUMA).mean()
    torch.testing.assert_close(after, mean + 0.8 * (bright - mean), atol=1e-5, rtol=0)


def test_hue_keeps_the_gray_and_turns_the_color_circle():
    before, after = color({"hue": 0.5}, [0.5, 0.5, 0.5, 1.0])  # half a turn: every color's complement
    torch.testing.assert_close(after @ LUMA, before @ LUMA, atol=1e-4, rtol=0)
    gray = (before @ LUMA)[:, None]
    torch.testing.assert_close(after - gray, gray - before, atol=1e-3, rtol=0)


def test_a_hue_rotation_by_a_third_turns_red_towards_green_or_blue():
    red = torch.tensor([0.2, -0.2, -0.2]).view(1, 3, 1, 1)
    config = AugmentConfig(brightness=0, contrast=0, saturation=0, hue=1 / 3)
    out = (recolor(red, torch.tensor([[0.0, 0.5, 0.5, 0.5, 1.0]]), config=config).flatten() + 1) / 2
    turn = abs(colorsys.rgb_to_hsv(*out.tolist())[0] - 0.5)
    assert turn == pytest.approx(1 / 6, abs=0.06)  # hue 1/3 or 2/3; YIQ's circle is not quite HSV's


def test_an_erased_rectangle_has_its_area_and_is_gray(draw):
    x = torch.ones(500, 3, 100, 100)
    uniform = torch.rand(500, 5, generator=draw)
    out = erase_(x, uniform, config=AugmentConfig(erase_probability=1, erase_area=(0.02, 0.1)))
    assert set(out.unique().tolist()) == {0, 1}
    area = (out[:, 0] == 0).float().mean((1, 2))
    wanted = 0.02 + 0.08 * uniform[:, 1]
    assert (area - wanted).abs().max() < 0.012  # whole pixels
    holes = out[:, 0] == 0
    rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(rows * columns, holes.sum((1, 2)))  # one full rectangle
    assert 0.2 < (rows / columns).min() < 0.5 < 2 < (rows / columns).max() < 5
