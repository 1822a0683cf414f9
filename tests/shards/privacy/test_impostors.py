"""False match rates are those of the real non-mated pairs, or are refused."""

from __future__ import annotations

import numpy as np
import pytest

from shards.embeddings.centers import normalized
from shards.errors import DataError
from shards.privacy.impostors import ImpostorScores

from ..pictures import random_features


@pytest.mark.parametrize("fmr", [0.5, 1e-2, 1e-3])
@pytest.mark.parametrize("block", [64, 4096])
def test_the_threshold_is_reached_by_the_requested_rate_of_non_mated_pairs(fmr, block):
    features, labels = random_features(400), np.arange(400) // 4
    threshold = ImpostorScores(features, labels, block=block).threshold(fmr)
    unit = normalized(features)
    left, right = np.triu_indices(400, 1)
    scores = np.sort((unit @ unit.T)[left, right][labels[left] != labels[right]])
    allowed = int(fmr * len(scores))
    assert (scores >= threshold).sum() <= allowed
    assert (scores >= threshold - 4e-6).sum() >= allowed


def test_mated_pairs_do_not_move_the_threshold():
    features = np.repeat(random_features(100), 4, axis=0)
    labels = np.arange(400) // 4
    assert ImpostorScores(features, labels).threshold(0.005) < 0.9
    with pytest.raises(DataError, match="more non-mated pairs are identical"):
        ImpostorScores(features, np.arange(400)).threshold(0.005)


def test_a_large_set_is_sampled_uniformly():
    features, labels = random_features(3000), np.arange(3000)
    threshold = ImpostorScores(features, labels, images=500).threshold(1e-2)
    assert threshold == pytest.approx(ImpostorScores(features, labels).threshold(1e-2), abs=0.02)
    assert threshold == ImpostorScores(features[::6], labels[::6]).threshold(1e-2)


@pytest.mark.parametrize(
    ("fmr", "identities", "words"),
    [
        (1e-4, 100, r"4950 non-mated pairs resolve at least 2\.0e-03"),
        (1e-2, 1, "one identity only"),
        (0, 100, "between 0 and 1"),
        (1, 100, "between 0 and 1"),
        (float("nan"), 100, "between 0 and 1"),
    ],
)
def test_a_rate_that_the_pairs_cannot_resolve_is_refused(fmr, identities, words):
    with pytest.raises(DataError, match=words):
        ImpostorScores(random_features(100), np.arange(100) % identities).threshold(fmr)


def test_only_rates_that_the_pairs_can_resolve_are_reported():
    scores = ImpostorScores(random_features(400), np.arange(400) // 4)
    rates = scores.resolved((1e-2, 1e-3, 1e-6))
    assert list(rates) == [1e-2, 1e-3]
    assert rates[1e-2] == scores.threshold(1e-2) < rates[1e-3]
