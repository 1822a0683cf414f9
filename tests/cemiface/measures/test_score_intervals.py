from __future__ import annotations

import numpy as np
import pytest

from cemiface.errors import ModelError
from cemiface.measures.score_intervals import (
    PairScores,
    divergence_intervals,
    divergences,
    drawn_identities,
    statistics_intervals,
)
from cemiface.recognition.scores import Scores, histogram, kl_of_histograms


def made(*, identities: int = 40, mated: float = 0.5, seed: int = 0, pairs: int = 2000) -> PairScores:
    """Scores around `mated` and 0; each identity has a level of its own."""
    draw = np.random.default_rng(seed)
    levels = draw.normal(0, 0.1, identities)
    of = draw.integers(0, identities, pairs)
    others = np.stack([of, (of + draw.integers(1, identities, pairs)) % identities], axis=1)
    return PairScores(
        mated=np.clip(mated + levels[of] + draw.normal(0, 0.1, pairs), -1, 1),
        mated_of=of,
        non_mated=np.clip(draw.normal(0, 0.1, pairs), -1, 1),
        non_mated_of=others,
        identities=identities,
    )


def test_statistics_equal_those_of_all_scores_up_to_the_width_of_a_bin():
    scores = made(mated=0.2)
    exact = Scores(mated=scores.mated, non_mated=scores.non_mated).statistics()
    found = scores.statistics()
    for name in ("mated_mean", "non_mated_mean", "fisher"):
        assert found[name] == pytest.approx(getattr(exact, name))
    for name in ("eer", "fmr100", "fmr1000"):
        assert found[name] == pytest.approx(getattr(exact, name), abs=0.01)


def test_an_identity_that_is_drawn_twice_counts_as_if_its_pairs_were_there_twice():
    scores = made(identities=5, pairs=60)
    twice = np.ones(5)
    twice[2] = 2
    repeated = np.concatenate([scores.mated, scores.mated[scores.mated_of == 2]])
    assert scores.statistics(twice)["mated_mean"] == pytest.approx(repeated.mean())


def test_intervals_hold_the_statistic_and_are_wider_than_independent_pairs_would_give():
    scores = made()
    low, high = statistics_intervals(scores, seed=1)["mated_mean"]
    assert low < scores.mated.mean() < high
    assert high - low > 2 * 1.96 * scores.mated.std() / len(scores.mated) ** 0.5 * 1.5


def test_intervals_follow_from_the_seed():
    assert statistics_intervals(made(), seed=1, rounds=20) == statistics_intervals(made(), seed=1, rounds=20)


def test_divergences_are_those_of_the_smoothed_histograms_and_zero_for_equal_sets():
    one, other = made(mated=0.5), made(mated=0.3, seed=3)
    expected = kl_of_histograms(histogram(one.mated), histogram(other.mated))
    assert divergences(one, other)["kl_mated"] == pytest.approx(expected)
    assert divergences(one, one)["kl_mated"] == 0
    low, high = divergence_intervals(one, other, seed=0, rounds=50)["kl_mated"]
    assert 0 < low < high


def test_pairs_within_a_cell_have_all_their_identities_in_it():
    scores = made()
    chosen = np.arange(40) < 20
    inside = scores.within(chosen)
    assert set(inside.non_mated_of.ravel()) <= set(range(20))
    with pytest.raises(ModelError, match="no mated or no non-mated pair"):
        scores.within(np.arange(40) == 3)


def test_a_draw_has_as_many_identities_as_the_set():
    assert drawn_identities(30, draw=np.random.default_rng(0)).sum() == 30
