from __future__ import annotations

import numpy as np
import pytest

from cemiface.gandiff.directions import DirectionError, fit_directions, orthogonal


def world(samples: int = 1500, *, width: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents with unequal variances, and the true unit directions of two attributes, which are 0.6 alike."""
    draw = np.random.default_rng(seed)
    w = (draw.normal(size=(samples, width)) * np.linspace(0.5, 2, width)).astype(np.float32)
    first = np.eye(width)[0]
    second = 0.6 * np.eye(width)[0] + 0.8 * np.eye(width)[1]
    return w, np.stack([first, second])


def test_directions_of_linear_attributes_are_found_and_their_held_out_scores_are_high():
    w, true = world()
    noise = np.random.default_rng(1).normal(size=len(w)) * 0.1
    found = fit_directions(w, {"yaw": w @ true[0] + noise}, ridge=1e-4)
    assert found.normals[0] @ true[0] > 0.99
    assert found.correlation[0] > 0.95
    assert found.scale[0] == pytest.approx((w @ true[0]).std(), rel=0.05)


def test_an_attribute_of_chance_scores_near_zero_on_held_out_samples():
    w, _ = world()
    found = fit_directions(w, {"luck": np.random.default_rng(2).normal(size=len(w))})
    assert abs(found.correlation[0]) < 0.15


def test_normals_are_orthonormal_and_an_edit_of_one_leaves_the_position_along_the_other():
    w, true = world()
    found = fit_directions(w, {"age": w @ true[0], "gender": w @ true[1]}, ridge=1e-4)
    assert found.normals @ found.normals.T == pytest.approx(np.eye(2), abs=1e-5)
    moved = found.edited(w[0], {"age": 2.0}) - w[0]
    assert moved @ found.normals[0] == pytest.approx(2 * found.scale[0], rel=1e-4)
    assert moved @ found.normals[1] == pytest.approx(0, abs=1e-4)


def test_the_order_of_attributes_does_not_change_their_directions():
    rows = np.random.default_rng(3).normal(size=(3, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert orthogonal(rows[::-1]) == pytest.approx(orthogonal(rows)[::-1])


def test_unmeasured_samples_are_left_out():
    w, true = world()
    values = w @ true[0]
    values[::3] = np.nan
    assert fit_directions(w, {"yaw": values}, ridge=1e-4).normals[0] @ true[0] > 0.99


@pytest.mark.parametrize("values", [np.zeros(1500), np.full(1500, np.nan)])
def test_an_attribute_without_variation_is_refused_in_one_line(values):
    with pytest.raises(DirectionError, match=r"^smile: got \d+ usable samples .*leave the attribute out$"):
        fit_directions(world()[0], {"smile": values})


def test_two_attributes_of_one_direction_are_refused():
    w, true = world()
    with pytest.raises(DirectionError, match="same direction"):
        fit_directions(w, {"a": w @ true[0], "b": w @ true[0]})
