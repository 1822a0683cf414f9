from __future__ import annotations

import numpy as np
import pytest

from cemiface.errors import ModelError
from cemiface.measures.set_metrics import (
    TABLE_BINS,
    diversity,
    frechet_distance,
    identities_by_similarity,
    moments,
    recall,
    set_metrics,
    uniqueness,
)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def greedy(centers: np.ndarray, radius: float) -> int:
    kept: list[np.ndarray] = []
    for center in centers:
        if all(center @ other < radius for other in kept):
            kept.append(center)
    return len(kept)


@pytest.mark.parametrize("count", [1, 7, 1500, 2500])
def test_uniqueness_equals_the_greedy_choice_one_by_one(count):
    draw = np.random.default_rng(count)
    centers = unit(draw.normal(size=(count, 6))).astype(np.float32)
    assert uniqueness(centers) == greedy(centers, 0.3) / count
    assert uniqueness(centers, radius=0.8) == greedy(centers, 0.8) / count


def test_copies_of_an_identity_are_not_unique_and_far_ones_all_are():
    assert uniqueness(np.eye(10, dtype=np.float32)) == 1
    assert uniqueness(np.repeat(np.eye(5, dtype=np.float32), 4, axis=0)) == 0.25


def test_set_metrics_distinguish_close_images_from_scattered_ones():
    draw = np.random.default_rng(0)
    centers, labels = np.eye(8)[:4] * 5, np.repeat(np.arange(4), 25)
    close = set_metrics(centers[labels] + 0.5 * draw.normal(size=(100, 8)), labels)
    assert close.consistency == close.uniqueness == 1
    unit_rows = unit(centers[labels] + 4 * draw.normal(size=(100, 8)))
    means = np.stack([unit(unit_rows[labels == label].mean(0)) for label in range(4)])
    similarity = (unit_rows * means[labels]).sum(1)
    found = set_metrics(unit_rows, labels)
    assert found.consistency == pytest.approx((similarity >= 0.3).mean())
    assert found.similarity_to_center == pytest.approx(similarity.mean(), abs=1e-5)
    assert found.similarity_to_center_std == pytest.approx(similarity.std(), abs=1e-5)


def test_the_frechet_distance_of_normals_is_that_of_the_formula():
    """For diagonal covariances: squared distances of the means and of the standard deviations."""
    mean, other = np.array([1.0, 2, 3]), np.array([0.0, 2, 5])
    std, other_std = np.array([1.0, 0.5, 2]), np.array([3.0, 0.5, 1])
    found = frechet_distance((mean, np.diag(std**2)), (other, np.diag(other_std**2)))
    assert found == pytest.approx(1 + 4 + 4 + 0 + 1)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(500, 5)) @ draw.normal(size=(5, 5))
    turn = np.linalg.qr(draw.normal(size=(5, 5)))[0]
    y = draw.normal(size=(400, 5)) @ draw.normal(size=(5, 5)) + 1
    assert frechet_distance(moments(x), moments(x)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(frechet_distance(moments(y), moments(x)))
    assert frechet_distance(moments(x @ turn), moments(y @ turn)) == pytest.approx(
        frechet_distance(moments(x), moments(y))
    )


def test_samples_of_fewer_dimensions_than_their_space_have_a_frechet_distance():
    x = np.zeros((4, 6))
    x[:, 0] = [1, 2, 3, 4]
    assert frechet_distance(moments(x), moments(x + 1)) == pytest.approx(6)
    with pytest.raises(ModelError, match="got 1 rows; allowed: at least 2"):
        moments(x[:1])


def test_recall_counts_reference_rows_within_the_manifold():
    draw = np.random.default_rng(0)
    features, reference = draw.normal(size=(30, 3)), draw.normal(size=(50, 3)) * 1.5
    covered = 0
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    radius = np.sort(distances, axis=1)[:, 3]
    for row in reference:
        covered += bool((np.linalg.norm(features - row, axis=1) <= radius).any())
    assert recall(features, reference=reference) == pytest.approx(covered / 50)
    assert recall(features, reference=features) == 1
    assert recall(features, reference=reference + 100) == 0


def test_diversity_is_the_mean_recall_of_identities_with_enough_images():
    draw = np.random.default_rng(1)
    features, reference = draw.normal(size=(43, 2)), draw.normal(size=(60, 2))
    labels = np.repeat([0, 1, 2], [20, 20, 3])
    expected = np.mean([recall(features[labels == label], reference=reference) for label in (0, 1)])
    assert diversity(features, labels, reference=reference) == pytest.approx(expected)
    with pytest.raises(ModelError, match="no identity has more than 3 images"):
        diversity(features[:3], labels[:3], reference=reference)


def test_identities_are_counted_by_their_mean_similarity():
    labels = np.array([0, 0, 1, 1, 2, 2, 3])
    similarity = np.array([0.1, 0.2, 0.25, 0.25, 0.9, 0.7, -0.4])
    counts = identities_by_similarity(similarity, labels)
    assert counts.tolist() == [1, 0, 1, 1, 0, 0, 1]
    assert len(counts) == len(TABLE_BINS) - 1
    assert counts.sum() == 4


def test_an_identity_whose_embeddings_cancel_out_is_refused():
    with pytest.raises(ModelError, match="identity 1: its embeddings cancel out"):
        set_metrics(np.array([[1.0, 0], [0, 1], [0, -1]]), np.array([0, 1, 1]))
