from __future__ import annotations

import itertools

import numpy as np
import pytest

from cemiface.errors import ModelError
from cemiface.semihard.calibration import Calibration, fit_calibration


def test_a_rising_curve_is_read_backwards():
    curve = fit_calibration([-1, 0, 1], means=[0.1, 0.2, 0.6])
    assert curve == Calibration(m=(-1, 0, 1), cosine=(0.1, 0.2, 0.6))
    assert curve.m_for(0.2) == 0
    assert curve.m_for(0.4) == pytest.approx(0.5)
    assert (curve.m_for(0.1), curve.m_for(0.6)) == (-1, 1)


def test_neighbors_that_fall_become_one_point_of_their_mean():
    curve = fit_calibration([0, 1, 2, 3], means=[0.1, 0.4, 0.2, 0.5])
    assert curve.m == (0, 1.5, 3)
    assert curve.cosine == pytest.approx((0.1, 0.3, 0.5))


def test_the_fit_is_the_nearest_rising_curve():
    """Against every way to split the points into pools of equal value (the definition)."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        means = (np.linspace(0, 0.3, 7) + draw.normal(0, 0.15, 7)).tolist()
        best, best_error = None, np.inf
        for cuts in itertools.product((False, True), repeat=6):
            pools = np.split(means, [place + 1 for place, cut in enumerate(cuts) if cut])
            values = [pool.mean() for pool in pools]
            error = sum(((pool - pool.mean()) ** 2).sum() for pool in pools)
            if all(a < b for a, b in itertools.pairwise(values)) and error < best_error:
                best, best_error = values, error
        assert best is not None
        if len(best) == 1:
            continue
        assert fit_calibration(range(7), means=means).cosine == pytest.approx(best)


def test_a_requested_cosine_outside_the_reached_range_is_refused():
    curve = fit_calibration([-1, 1], means=[0.05, 0.61])
    with pytest.raises(ModelError, match=r"requested cosine of 0\.9; allowed: 0\.050 to 0\.610"):
        curve.m_for(0.9)


def test_a_curve_that_does_not_rise_is_refused():
    with pytest.raises(ModelError, match=r"does not rise with m \(0\.300 at -1, 0\.100 at 1\)"):
        fit_calibration([-1, 0, 1], means=[0.3, 0.2, 0.1])
