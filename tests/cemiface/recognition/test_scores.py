from __future__ import annotations

import itertools

import numpy as np
import pytest

from cemiface.errors import ModelError
from cemiface.recognition.scores import (
    BINS,
    Scores,
    histogram,
    kl_of_histograms,
    mated_non_mated,
    mated_pairs,
    non_mated_pairs,
    wasserstein,
)

LABELS = np.array([2, 0, 1, 0, 2, 2, 3, 0, 1, 4, 2])  # identities 3 and 4 have one image


def all_pairs(labels: np.ndarray, *, mated: bool) -> set[frozenset[int]]:
    return {
        frozenset(pair)
        for pair in itertools.combinations(range(len(labels)), 2)
        if (labels[pair[0]] == labels[pair[1]]) == mated
    }


@pytest.mark.parametrize(("pairs", "mated"), [(mated_pairs, True), (non_mated_pairs, False)])
def test_below_the_limit_every_pair_is_returned_once(pairs, mated):
    a, b = pairs(LABELS, seed=0, limit=1000)
    found = [frozenset(pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == all_pairs(LABELS, mated=mated)


@pytest.mark.parametrize(("pairs", "mated"), [(mated_pairs, True), (non_mated_pairs, False)])
def test_above_the_limit_pairs_are_sampled_uniformly(pairs, mated):
    labels = np.concatenate([LABELS] * 8)  # enough pairs to draw from
    allowed = all_pairs(labels, mated=mated)
    a, b = pairs(labels, seed=0, limit=len(allowed) - 1)
    drawn = [frozenset(pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    assert set(drawn) <= allowed
    # With replacement, 1 - 1/e of the pairs come up.
    assert len(set(drawn)) / len(allowed) == pytest.approx(1 - np.exp(-1), abs=0.05)
    involved = np.bincount(np.concatenate([a, b]), minlength=len(labels))
    expected = np.bincount([i for pair in allowed for i in pair], minlength=len(labels)) * len(drawn) / len(allowed)
    assert np.abs(involved - expected).max() < 6 * np.sqrt(expected.max())


def test_the_sample_depends_on_the_seed_only():
    one, two, other = (non_mated_pairs(np.tile(LABELS, 5), seed=seed, limit=100) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_large_sets_use_little_memory():
    """A million images have 5e11 pairs; only the sample is held."""
    labels = np.arange(1_000_000) // 50
    a, b = non_mated_pairs(labels, seed=0, limit=1000)
    assert len(a) == 1000
    assert (labels[a] != labels[b]).all()
    a, b = mated_pairs(np.zeros(1_000_000, np.int64), seed=0, limit=1000)
    assert (a != b).all()
    assert (np.maximum(a, b) < 1_000_000).all()


def test_scores_are_the_cosines_of_the_pairs():
    features = np.random.default_rng(0).normal(size=(len(LABELS), 7)) * 10
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    scores = mated_non_mated(features, [f"id-{label}" for label in LABELS], seed=0, limit=1000)
    for found, mated in ((scores.mated, True), (scores.non_mated, False)):
        expected = [unit[i] @ unit[j] for i, j in all_pairs(LABELS, mated=mated)]
        np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-6)


def test_statistics_equal_a_loop_over_thresholds():
    generator = np.random.default_rng(0)
    mated, non_mated = generator.normal(0.5, 0.15, 700), generator.normal(0.0, 0.12, 1500)
    found = Scores(mated=mated, non_mated=non_mated).statistics()
    rates = []
    for threshold in [*np.sort(np.concatenate([mated, non_mated])), 2.0]:
        rates.append(((non_mated >= threshold).mean(), (mated < threshold).mean()))
    assert found.fmr100 == pytest.approx(min(fnmr for fmr, fnmr in rates if fmr <= 0.01))
    assert found.fmr1000 == pytest.approx(min(fnmr for fmr, fnmr in rates if fmr <= 0.001))
    assert found.eer == pytest.approx(np.mean(min(rates, key=lambda rate: abs(rate[0] - rate[1]))))
    assert found.fisher == pytest.approx((mated.mean() - non_mated.mean()) ** 2 / (mated.var() + non_mated.var()))
    assert (found.mated_mean, found.non_mated_std) == pytest.approx((mated.mean(), non_mated.std()))


def test_equal_distributions_have_an_equal_error_rate_of_one_half():
    scores = np.random.default_rng(0).normal(0, 0.1, 4001)
    assert Scores(mated=scores, non_mated=scores).statistics().eer == pytest.approx(0.5, abs=1e-3)


def test_separated_distributions_have_no_errors():
    found = Scores(mated=np.array([0.8, 0.9]), non_mated=np.array([0.1, 0.2])).statistics()
    assert (found.eer, found.fmr100, found.fmr1000) == (0, 0, 0)


def test_the_histogram_counts_every_score():
    counts = histogram([-1.0, -1.2, 0.005, 0.015, 1.0, 1.0000001])
    assert counts.sum() == 6
    assert (counts[0], counts[50], counts[-1]) == (2, 2, 2)
    assert len(counts) == len(BINS) - 1


def test_kl_divergence_of_normals_is_near_the_formula():
    generator = np.random.default_rng(0)
    p, q = generator.normal(0.3, 0.1, 200_000), generator.normal(0.1, 0.15, 200_000)
    expected = np.log(0.15 / 0.1) + (0.1**2 + 0.2**2) / (2 * 0.15**2) - 0.5
    assert kl_of_histograms(histogram(p), histogram(q)) == pytest.approx(expected, rel=0.03)
    assert kl_of_histograms(histogram(p), histogram(p)) == 0


def test_kl_divergence_of_disjoint_samples_is_finite():
    assert 1 < kl_of_histograms(histogram([0.5] * 100), histogram([-0.5] * 100)) < 10


def test_wasserstein_is_the_mean_distance_of_sorted_samples():
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.3, 0.1, 500), generator.normal(0.1, 0.2, 500)
    assert wasserstein(a, b) == pytest.approx(np.abs(np.sort(a) - np.sort(b)).mean())
    assert wasserstein(a, a + 0.25) == pytest.approx(0.25)
    assert wasserstein([0.0, 0.0, 1.0], [0.0]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("labels", "limit", "message"),
    [
        ([0, 1, 2], 10, "no identity has two images"),
        ([0, 0, 0], 10, "non-mated pairs need two"),
        ([0, 0], 10, "got 2 for 3 features"),
        ([0, 0, 1], 0, "limit: got 0"),
    ],
)
def test_sets_without_both_kinds_of_pairs_are_refused(labels, limit, message):
    with pytest.raises(ModelError, match=message):
        mated_non_mated(np.ones((3, 2)), labels, seed=0, limit=limit)
