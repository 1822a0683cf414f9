from __future__ import annotations

import numpy as np
import pytest

from cemiface.recognition.gap_intervals import Decisions, mean_interval, people_of_pairs


def decisions(accuracy: float, *, people: int = 400, pairs: int = 4000, seeds: int = 3, seed: int = 0) -> Decisions:
    draw = np.random.default_rng(seed)
    return Decisions(
        right=(draw.random((seeds, pairs)) < accuracy).astype(np.float64),
        people=draw.integers(0, people, (pairs, 2)),
    )


def test_the_interval_holds_the_mean_and_is_the_same_for_the_same_seed() -> None:
    found = decisions(0.8)
    low, high = mean_interval([found], seed=1)
    assert low < found.right.mean() < high
    assert (low, high) == mean_interval([found], seed=1)
    assert high - low > 2 * 1.96 * np.sqrt(0.8 * 0.2 / (3 * 4000))  # people are shared by pairs: wider than as if not


@pytest.mark.parametrize("difference", [0.0, 0.05])
def test_intervals_of_gaps_miss_the_true_gap_about_as_often_as_they_say(difference: float) -> None:
    """People differ in how hard they are: two nets share this, which the paired interval takes out."""
    missed = told = 0
    for number in range(60):
        draw = np.random.default_rng(number)
        people = draw.integers(0, 200, (2000, 2))
        hard = draw.normal(0, 0.08, 200)[people].mean(axis=1)
        one, other = (
            Decisions(right=(draw.random((3, 2000)) < mean + hard).astype(np.float64), people=people)
            for mean in (0.75 + difference, 0.75)
        )
        low, high = mean_interval([one.less(other)], seed=number, rounds=200)
        missed += not low <= difference <= high
        told += not low <= 0 <= high
    assert missed <= 9  # 5 % of 60 is 3
    assert told >= 54 if difference else told <= 9


def test_several_benchmarks_count_alike_whatever_their_size() -> None:
    large, small = decisions(0.9, pairs=5000), decisions(0.5, pairs=500, seed=1)
    low, high = mean_interval([large, small], seed=1)
    assert low < (large.right.mean() + small.right.mean()) / 2 < high


def test_one_seed_gives_an_interval_over_people_alone() -> None:
    found = decisions(0.7, seeds=1)
    low, high = mean_interval([found], seed=1)
    assert low < found.right.mean() < high


def test_people_are_taken_from_names_that_agree_with_the_pairs_else_from_chains_of_mated_pairs() -> None:
    first, second = np.array([0, 1, 0, 3]), np.array([1, 2, 3, 4])
    same = np.array([True, True, False, True])
    named = people_of_pairs(first, second, same, names=["a", "a", "a", "b", "b"])
    assert named.tolist() == [[0, 0], [0, 0], [0, 1], [1, 1]]
    for names in (["a", "b", "a", "b", "b"], [None] * 5):
        assert people_of_pairs(first, second, same, names=names).tolist() == named.tolist()
