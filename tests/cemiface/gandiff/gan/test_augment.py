"""Augmentation before the critic: each image by its own numbers, differentiable, and what each change does."""

from __future__ import annotations

import pytest
import torch

from cemiface.gandiff.gan.augment import augment, draw_changes
from cemiface.gandiff.gan.config import Augmentation, GanLossConfig

ALL: tuple[Augmentation, ...] = ("color", "translation", "cutout")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_an_image_is_changed_by_its_own_seed_alone(images: torch.Tensor) -> None:
    seeds = [3, 1, 4, 1, 5, 9]
    together = augment(images, draw_changes(seeds), kinds=ALL, probability=0.7)
    for row, seed in enumerate(seeds):
        alone = augment(images[row : row + 1], draw_changes([seed]), kinds=ALL, probability=0.7)
        torch.testing.assert_close(alone[0], together[row])


def test_no_image_is_changed_at_probability_zero_and_all_are_at_one(images: torch.Tensor) -> None:
    drawn = draw_changes(range(6))
    torch.testing.assert_close(augment(images, drawn, kinds=ALL, probability=0.0), images)
    changed = augment(images, drawn, kinds=ALL, probability=1.0)
    assert all((changed[row] - images[row]).abs().max() > 0.1 for row in range(6))


def test_about_as_many_images_are_changed_as_asked() -> None:
    drawn = draw_changes(range(2000))
    x = torch.ones(2000, 3, 8, 8)
    changed = augment(x, drawn, kinds=("cutout",), probability=0.3)
    assert (changed == 0).flatten(1).any(1).float().mean() == pytest.approx(0.3, abs=0.04)


def test_a_shift_moves_whole_pixels_by_at_most_an_eighth(images: torch.Tensor) -> None:
    moved = augment(images, draw_changes(range(6)), kinds=("translation",), probability=1.0)
    for before, after in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        candidates = [padded[:, i : i + 16, j : j + 16] for i in range(5) for j in range(5)]
        assert any(torch.equal(candidate, after) for candidate in candidates)


def test_a_hole_is_a_square_of_half_the_side_or_less_at_the_border() -> None:
    holes = augment(torch.ones(300, 3, 16, 16), draw_changes(range(300)), kinds=("cutout",), probability=1.0) == 0
    areas = holes[:, 0].flatten(1).sum(1)
    assert areas.max() <= 64
    assert areas.min() >= 9


def test_color_keeps_what_a_picture_shows(images: torch.Tensor) -> None:
    changed = augment(images, draw_changes(range(6)), kinds=("color",), probability=1.0)
    gray, before = changed.mean(1).flatten(1), images.mean(1).flatten(1)
    for row in range(6):
        assert torch.corrcoef(torch.stack([gray[row], before[row]]))[0, 1] > 0.999


def test_the_gradient_passes_all_changes(images: torch.Tensor) -> None:
    x, drawn = images[:1, :, :6, :6].double().requires_grad_(), draw_changes([0])
    assert torch.autograd.gradcheck(lambda one: augment(one, drawn, kinds=ALL, probability=1.0), (x,))


def test_a_kind_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="augment: got"):
        GanLossConfig(augment=("color", "color"))
