"""Fingerprints are read back as written, and damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.embeddings.centers import identity_centers
from shards.errors import DataError
from shards.images.hashes import pixel_hash
from shards.privacy.fingerprints import (
    Fingerprints,
    Vectors,
    centers_of,
    hashes_of,
    mirror_invariant,
    read_fingerprints,
    read_vectors,
    vectors_bytes,
)

from ..pictures import pixels, random_features, unit_features


def references(count: int = 6, *, seed: int = 0) -> Fingerprints:
    exact, near = hashes_of(pixels(seed + row, size=32) for row in range(count))
    return Fingerprints(
        keys=[f"{seed:03d}-{row:03d}" for row in range(count)],
        identities=[f"person-{row // 2}" for row in range(count)],
        features=unit_features(count, seed=seed),
        exact=exact,
        near=near,
    )


def test_references_are_read_back_unchanged_and_written_reproducibly(tmp_path: Path):
    written = references()
    data = vectors_bytes(written, embedder="judge")
    assert data == vectors_bytes(written, embedder="judge")
    path = tmp_path / "real-00000.h5"
    path.write_bytes(data)
    read = read_fingerprints(path)
    assert (read.keys, read.identities) == (written.keys, written.identities)
    for name in ("features", "exact", "near"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert bytes(read.exact[3]).hex() == pixel_hash(pixels(3, size=32))


def test_vectors_have_no_hashes(tmp_path: Path):
    path = tmp_path / "centers.h5"
    path.write_bytes(vectors_bytes(Vectors(keys=["a"], identities=["a"], features=unit_features(1)), embedder="judge"))
    assert read_vectors(path).keys == ["a"]
    with pytest.raises(DataError, match="dataset 'exact' is missing"):
        read_fingerprints(path)


@pytest.mark.parametrize("value", [0.0, 3.0, float("nan")])
def test_an_embedding_that_is_not_of_unit_length_is_refused(value):
    features = unit_features(3)
    features[1] = value
    with pytest.raises(DataError, match=r"row 1 \(b\) has squared length .*, expected 1"):
        vectors_bytes(Vectors(keys=["a", "b", "c"], identities=["x"] * 3, features=features), embedder="judge")


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(DataError, match="2 keys, 1 identities, 2 embeddings"):
        vectors_bytes(Vectors(keys=["a", "b"], identities=["x"], features=unit_features(2)), embedder="judge")


def test_a_mirrored_image_has_the_same_embedding():
    plain, flipped = random_features(5), random_features(5, seed=1)
    np.testing.assert_allclose(mirror_invariant(plain, flipped), mirror_invariant(flipped * 3, plain * 7), atol=1e-6)


def test_centers_are_those_of_all_parts_together():
    parts = [references(seed=seed) for seed in (0, 100)]
    centers = centers_of(iter(parts))
    labels = np.array([0, 0, 1, 1, 2, 2] * 2)
    expected = identity_centers(np.concatenate([part.features for part in parts]), labels)
    assert centers.keys == centers.identities == ["person-0", "person-1", "person-2"]
    np.testing.assert_allclose(centers.features, expected, atol=1e-6)
    with pytest.raises(DataError, match="no real faces"):
        centers_of([])
