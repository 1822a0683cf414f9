# ruff: noqa: N802
from __future__ import annotations

import numpy as np
import pytest

from cemiface.errors import ModelError
from cemiface.recognition.verification import (
    check_embeddings,
    equal_error_rate,
    exact_decisions,
    k_fold_accuracy,
    pair_similarity,
    roc,
    tar_at_far,
)


def pairs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping scores, half of the pairs mated, in runs like those of benchmark files."""
    generator = np.random.default_rng(seed)
    same = np.arange(n) // max(1, n // 20) % 2 == 0
    return np.clip(generator.normal(np.where(same, 0.4, 0.1), 0.2), -1, 1), same


def naive_accuracy(similarity: np.ndarray, same: np.ndarray, folds: int) -> list[float]:
    """Try every threshold on every fold."""
    distance = 2 - 2 * similarity
    sizes = [len(same) // folds + (fold < len(same) % folds) for fold in range(folds)]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    accuracies = []
    for fold in range(folds):
        test = np.zeros(len(same), bool)
        test[bounds[fold] : bounds[fold + 1]] = True
        best, best_right = 0.0, -1
        for threshold in np.arange(0, 4, 0.01):
            right = ((distance[~test] < threshold) == same[~test]).sum()
            if right > best_right:
                best, best_right = threshold, right
        accuracies.append(float(((distance[test] < best) == same[test]).mean()))
    return accuracies


@pytest.mark.parametrize(("n", "folds"), [(600, 10), (607, 10), (50, 5), (10, 10)])
def test_accuracy_equals_a_loop_over_folds_and_thresholds(n, folds):
    similarity, same = pairs(n)
    found = k_fold_accuracy(similarity, same, folds=folds)
    expected = naive_accuracy(similarity, same, folds)
    assert found.per_fold == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.std == pytest.approx(np.std(expected))


def test_fold_accuracies_from_embeddings_equal_the_written_out_protocol_to_the_last_bit():
    """The protocol uses unit vectors and squared distances; the code uses cosines in blocks."""
    draw = np.random.default_rng(0)
    same = np.arange(1210) % 121 < 60
    a = draw.normal(size=(1210, 64)).astype(np.float32)
    b = (np.where(same[:, None], a, a[::-1]) + 1.5 * draw.normal(size=a.shape)).astype(np.float32)
    unit_a, unit_b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (a, b))
    distance = np.square(unit_a - unit_b).sum(1)
    similarity = pair_similarity(a, b)
    assert k_fold_accuracy(similarity, same).per_fold == tuple(naive_accuracy(1 - distance / 2, same, 10))
    np.testing.assert_allclose(similarity, (unit_a * unit_b).sum(1), atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_B43_embeddings_without_a_direction_are_refused_with_their_name(value):
    features = np.ones((5, 3), np.float32)
    check_embeddings(features, names=list("abcde"))
    features[3] = features[4] = value
    with pytest.raises(ModelError, match=r"row 3 \(d\) has norm .*, and 1 more like it"):
        check_embeddings(features, names=list("abcde"))


def test_a_distance_equal_to_the_threshold_is_not_accepted():
    """Quarters are exact in floating point: every pair ties with a threshold of the grid."""
    generator = np.random.default_rng(0)
    distance = generator.integers(1, 8, size=400) / 4
    same = generator.random(400) < 1 - distance / 2
    similarity = 1 - distance / 2
    found = k_fold_accuracy(similarity, same)
    assert found.per_fold == pytest.approx(naive_accuracy(similarity, same, 10))
    assert set(np.round(2 - 2 * np.array(found.thresholds), 2) * 100 % 25) == {1}  # one step above the accepted ones


def test_separable_pairs_reach_full_accuracy_at_a_threshold_between():
    similarity, same = np.tile([0.9, 0.1], 50), np.tile([True, False], 50)
    accuracy = k_fold_accuracy(similarity, same)
    assert (accuracy.mean, accuracy.std) == (1, 0)
    assert all(0.1 < threshold <= 0.9 for threshold in accuracy.thresholds)


def test_the_threshold_is_not_picked_on_the_test_fold():
    """The pairs of one fold have other scores: a threshold chosen with them would classify them correctly."""
    similarity, same = np.tile([0.9, 0.5], 50), np.tile([True, False], 50)
    similarity[:10] = np.tile([0.3, 0.1], 5)
    assert k_fold_accuracy(similarity, same).per_fold[0] == 0.5


def test_roc_counts_every_pair():
    similarity, same = np.round(pairs(200)[0], 2), pairs(200)[1]
    curve = roc(similarity, same)
    for far, tar, threshold in zip(curve.far, curve.tar, curve.thresholds, strict=True):
        assert far == pytest.approx((similarity[~same] >= threshold).mean())
        assert tar == pytest.approx((similarity[same] >= threshold).mean())
    assert (curve.far[-1], curve.tar[-1]) == (1, 1)
    assert (np.diff(curve.far) >= 0).all()


@pytest.mark.parametrize("far", [0.0, 0.001, 0.01, 0.1, 1.0])
def test_tar_at_far_is_the_best_threshold_that_keeps_the_far(far):
    similarity, same = pairs(500)
    best = 0.0
    for threshold in similarity:
        if (similarity[~same] >= threshold).mean() <= far:
            best = max(best, (similarity[same] >= threshold).mean())
    assert tar_at_far(similarity, same, far=far) == pytest.approx(best)


def test_tar_is_zero_where_every_mated_pair_is_below_a_non_mated():
    assert tar_at_far([0.9, 0.1], [False, True], far=0.5) == 0


def test_similarity_is_the_cosine_of_rows(draw):
    a, b = np.array([[1.0, 0], [3, 4], [0, 0]]), np.array([[2.0, 0], [4, -3], [1, 1]])
    assert pair_similarity(a, b).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("similarity", "same", "message"),
    [
        ([0.1, np.nan], [True, False], "1 values that are not finite"),
        ([0.1, 0.2], [True, True], "got 2 mated of 2 pairs"),
        ([0.1, 0.2], [True], r"shapes \(2,\) and \(1,\)"),
        ([0.1, 0.2], [True, False], "folds: got 10 for 2 pairs"),
    ],
)
def test_impossible_pairs_are_refused(similarity, same, message):
    with pytest.raises(ModelError, match=message):
        k_fold_accuracy(similarity, same)


@pytest.mark.parametrize(("n", "folds"), [(600, 10), (53, 5)])
def test_exact_decisions_equal_a_loop_over_all_thresholds(n, folds):
    similarity, same = pairs(n)
    similarity = np.round(similarity, 2)  # ties
    expected = []
    for part in np.array_split(np.arange(n), folds):
        others = np.setdiff1d(np.arange(n), part)
        thresholds = [np.inf, *np.unique(similarity[others])[::-1]]
        right = [((similarity[others] >= threshold) == same[others]).sum() for threshold in thresholds]
        best = thresholds[int(np.argmax(right))]
        expected += ((similarity[part] >= best) == same[part]).tolist()
    assert exact_decisions(similarity, same, folds=folds).tolist() == expected


def test_a_net_whose_cosines_lie_close_together_is_told_from_chance_only_by_exact_thresholds():
    similarity, same = pairs(600)
    close = 0.999 + 1e-6 * similarity
    assert k_fold_accuracy(close, same).mean == 0.5
    np.testing.assert_array_equal(exact_decisions(close, same), exact_decisions(similarity, same))
    assert exact_decisions(close, same).mean() > 0.7
    assert equal_error_rate(close, same) == pytest.approx(equal_error_rate(similarity, same))


def test_equal_error_rate_by_hand():
    assert equal_error_rate([0.9, 0.8, 0.3, 0.5, 0.2, 0.1], [True, True, True, False, False, False]) == pytest.approx(
        1 / 3
    )
    assert equal_error_rate([0.9, 0.1], [True, False]) == 0


def test_right_says_which_pairs_of_each_fold_are_decided_rightly():
    similarity, same = pairs(607)
    found = k_fold_accuracy(similarity, same, folds=10)
    assert [part.mean() for part in np.array_split(found.right, 10)] == pytest.approx(found.per_fold)
