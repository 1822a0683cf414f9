"""The nearest reference is that of a brute-force search, for any block size."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from shards.embeddings.nearest import NearestSearch, pairs_per_second

from ..pictures import unit_features


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
@pytest.mark.parametrize("part", [1, 30, 81])
def test_nearest_equals_a_brute_force_search_for_any_block_size(block, part):
    queries, references = unit_features(50), unit_features(81, seed=1)
    names = [f"r{row}" for row in range(81)]
    found = NearestSearch(queries, block=block)
    for first in range(0, 81, part):
        found.add(references[first : first + part], names[first : first + part])
    scores = queries @ references.T
    assert found.name.tolist() == [names[row] for row in scores.argmax(axis=1)]
    np.testing.assert_allclose(found.cosine, scores.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("part", [1, 30, 81])
def test_references_of_the_querys_own_identity_are_excluded(block, part):
    queries, references = unit_features(50), unit_features(81, seed=1)
    own = np.arange(50) % 9
    people = np.arange(81) % 11  # 9 and 10 are no query's
    found = NearestSearch(queries, identities=[f"p{person}" for person in own], block=block)
    names = [f"r{row}" for row in range(81)]
    for first in range(0, 81, part):
        rows = slice(first, first + part)
        found.add(references[rows], names[rows], identities=[f"p{person}" for person in people[rows]])
    scores = np.where(own[:, None] == people[None], -np.inf, queries @ references.T)
    assert found.name.tolist() == [names[row] for row in scores.argmax(axis=1)]
    np.testing.assert_allclose(found.cosine, scores.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("block", [1, 2, 4096])
def test_among_equal_references_the_first_is_nearest(block):
    found = NearestSearch(np.eye(2, dtype=np.float32)[:1], block=block)
    found.add(np.eye(2, dtype=np.float32)[[1, 0]], ["other", "first"])
    found.add(np.eye(2, dtype=np.float32)[[0]], ["second"])
    assert (found.name.tolist(), found.cosine.tolist()) == (["first"], [1.0])


def test_memory_does_not_depend_on_the_number_of_references():
    queries, part, names = unit_features(1000), unit_features(1000, seed=1), [f"r{row}" for row in range(1000)]
    found = NearestSearch(queries, block=256)
    peaks = []
    for parts in (2, 20):
        tracemalloc.start()
        for _ in range(parts):
            found.add(part, names)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] < 3_000_000


def test_the_measured_speed_is_positive():
    assert pairs_per_second(64, seconds=0.01) > 0
