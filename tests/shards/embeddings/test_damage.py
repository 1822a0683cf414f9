"""HDF5 files that were cut or do not fit together are refused in one line; searches give one answer in any order."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save

from shards.embeddings.centers import directions, identity_centers, normalized, similarity_to_center, unit_sums
from shards.embeddings.classifier import classifier_bytes, classifier_centers
from shards.embeddings.embeddings import (
    Embeddings,
    embeddings_bytes,
    merged_bytes,
    open_merged,
    read_embeddings,
    with_similarity,
)
from shards.embeddings.mapped_rows import MappedRows, check_rows
from shards.embeddings.nearest import NearestSearch, slices
from shards.errors import DataError
from shards.privacy.fingerprints import Fingerprints, read_fingerprints, read_vectors, vectors_bytes

from ..pictures import random_features, unit_features


def embeddings(count: int = 6, *, seed: int = 0) -> Embeddings:
    return with_similarity(
        [f"{seed}-{row}" for row in range(count)],
        identities=[f"p{row % 3}" for row in range(count)],
        features=random_features(count, seed=seed),
        flipped=random_features(count, seed=seed + 100),
    )


def write_parts(folder: Path, counts: list[int]) -> list[Path]:
    paths = []
    for seed, count in enumerate(counts):
        paths.append(folder / f"embeddings-{seed:05d}.h5")
        paths[-1].write_bytes(embeddings_bytes(embeddings(count, seed=seed), embedder="net"))
    return paths


def references(count: int = 4) -> Fingerprints:
    hashes = np.random.default_rng(0).integers(0, 256, (2, count, 32), np.uint8)
    return Fingerprints(
        keys=[f"r{row}" for row in range(count)],
        identities=[f"p{row % 2}" for row in range(count)],
        features=unit_features(count),
        exact=hashes[0],
        near=hashes[1],
    )


def test_a_file_of_embeddings_cut_anywhere_is_refused_naming_it(tmp_path):
    whole, path = embeddings_bytes(embeddings(), embedder="net"), tmp_path / "x.h5"
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"x\.h5: not a readable HDF5 file") as caught:
            read_embeddings(path)
        assert "\n" not in str(caught.value)


def test_a_file_of_fingerprints_cut_anywhere_is_refused_naming_it(tmp_path):
    whole, path = vectors_bytes(references(), embedder="judge"), tmp_path / "x.h5"
    for size in range(0, len(whole), 197):
        path.write_bytes(whole[:size])
        for read in (read_vectors, read_fingerprints):
            with pytest.raises(DataError, match=r"x\.h5: not a readable HDF5 file"):
                read(path)


@pytest.mark.parametrize(
    ("name", "rows"), [("exact", np.zeros((3, 32), np.uint8)), ("near", np.zeros((4, 32), np.int16))]
)
def test_hashes_of_another_shape_or_type_are_refused(tmp_path, name, rows):
    path = tmp_path / "x.h5"
    path.write_bytes(vectors_bytes(references(), embedder="judge"))
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = rows
    with pytest.raises(DataError, match=rf"x\.h5: {name} is {rows.dtype} .* for 4 images; remove it and run again"):
        read_fingerprints(path)


@pytest.mark.parametrize("counts", [[6], [1, 2, 3], [3, 3, 1, 2], [5, 1]])
def test_joined_parts_give_the_rows_of_the_parts_in_any_selection(tmp_path, counts):
    paths = write_parts(tmp_path, counts)
    (tmp_path / "embeddings.h5").write_bytes(merged_bytes(paths))
    joined, parts = open_merged(tmp_path / "embeddings.h5"), [read_embeddings(path) for path in paths]
    features = np.concatenate([part.features for part in parts])
    flipped = np.concatenate([part.flipped for part in parts])
    assert joined.keys == [key for part in parts for key in part.keys]
    assert joined.features.shape == features.shape
    draw = np.random.default_rng(0)
    for _ in range(5):
        rows, flips = draw.integers(0, len(features), 7), draw.random(7) < 0.5
        np.testing.assert_array_equal(joined.features[rows], features[rows])
        np.testing.assert_array_equal(
            joined.of(rows, flips=flips), np.where(flips[:, None], flipped[rows], features[rows])
        )
    for cut in (slice(None), slice(1, 3), slice(0, 0), slice(None, None, -1), slice(-2, None)):
        np.testing.assert_array_equal(joined.features[cut], features[cut])
    np.testing.assert_allclose(joined.centers, identity_centers(features, joined.labels), atol=1e-6)
    np.testing.assert_allclose(
        joined.similarity, similarity_to_center(features, joined.labels, joined.centers), atol=1e-6
    )


def test_the_file_of_one_tar_is_no_joining_file(tmp_path):
    (path,) = write_parts(tmp_path, [3])
    with pytest.raises(DataError, match=r"features joins no files; is it the file of one tar\?"):
        open_merged(path)


def test_centers_of_another_number_of_identities_are_refused(tmp_path):
    path = tmp_path / "embeddings.h5"
    path.write_bytes(merged_bytes(write_parts(tmp_path, [3, 2])))
    with h5py.File(path, "a") as file:
        del file["centers"]
        file["centers"] = unit_features(9)
    with pytest.raises(DataError, match=r"embeddings\.h5: centers are \(9, 16\) for 3 identities"):
        open_merged(path)


@pytest.mark.parametrize("paths", [[], ["a/x.h5", "b/x.h5"]])
def test_parts_of_no_or_of_several_folders_are_refused(tmp_path, paths):
    with pytest.raises(DataError, match="the files must lie in one folder, and there must be at least one"):
        merged_bytes([tmp_path / path for path in paths])


def test_a_key_in_two_parts_is_refused(tmp_path):
    paths = write_parts(tmp_path, [2])
    (tmp_path / "again.h5").write_bytes(paths[0].read_bytes())
    with pytest.raises(DataError, match="a key appears twice; are two data sets mixed"):
        merged_bytes([*paths, tmp_path / "again.h5"])


@pytest.mark.parametrize(
    "weight", [np.ones(3, np.float32), np.ones((2, 4), np.float32), np.ones((3, 2, 2), np.float32)]
)
def test_a_classifier_whose_weight_does_not_fit_its_names_is_refused(tmp_path, weight):
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(save({"weight": weight}, metadata={"classes": '["a", "b", "c"]'}))
    with pytest.raises(DataError, match=r"weight is \(.*\), classes do not match it"):
        classifier_centers(path, classes=["a"], width=4)


def test_a_classifier_cut_anywhere_is_refused(tmp_path):
    whole, path = classifier_bytes(unit_features(3), classes=["a", "b", "é"]), tmp_path / "c.safetensors"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"c\.safetensors: not a classifier with `weight` and `classes`"):
            classifier_centers(path, classes=["a"], width=16)


@pytest.mark.parametrize("seed", range(6))
def test_the_rows_of_a_classifier_come_in_the_order_asked_for(tmp_path, seed):
    names, weight, path = list("abcdef"), random_features(6, seed=seed) * 9, tmp_path / "c.safetensors"
    path.write_bytes(classifier_bytes(weight, classes=names))
    chosen = np.random.default_rng(seed).permutation(6)[: 1 + seed]
    found = classifier_centers(path, classes=[names[row] for row in chosen], width=16)
    np.testing.assert_allclose(found, normalized(weight[chosen]), atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_the_nearest_reference_is_the_same_in_any_order_and_any_cut(seed):
    draw = np.random.default_rng(seed)
    queries, references, names = (
        unit_features(9, seed=seed),
        unit_features(40, seed=seed + 50),
        np.arange(40).astype(str),
    )
    order, cuts = draw.permutation(40), np.sort(draw.choice(40, 5, replace=False))
    found = NearestSearch(queries, block=int(draw.integers(1, 50)))
    for rows in np.split(order, cuts):
        found.add(references[rows], names[rows].tolist())
    scores = queries @ references.T
    assert found.name.tolist() == names[scores.argmax(axis=1)].tolist()
    np.testing.assert_allclose(found.cosine, scores.max(axis=1), atol=1e-6)


def test_before_the_first_reference_nothing_is_nearest():
    found = NearestSearch(unit_features(3))
    found.add(unit_features(0), [])
    assert found.name.tolist() == ["", "", ""]
    assert np.isneginf(found.cosine).all()


def test_a_query_whose_own_identity_is_the_only_one_has_no_nearest():
    found = NearestSearch(unit_features(2), identities=["a", "b"])
    found.add(unit_features(1, seed=3), ["r"], identities=["a"])
    assert found.name.tolist() == ["", "r"]
    assert np.isneginf(found.cosine[0])


@pytest.mark.parametrize("count", [0, 1, 6, 7, 20])
@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_slices_cover_every_row_once_in_order(count, block):
    rows = [row for part in slices(count, block) for row in range(part.start, part.stop)]
    assert rows == list(range(count))
    assert all(part.stop - part.start <= block for part in slices(count, block))


@pytest.mark.parametrize("seed", range(6))
def test_centers_do_not_depend_on_the_cut_or_on_the_length_of_embeddings(seed):
    draw = np.random.default_rng(seed)
    features, labels = random_features(20, seed=seed), np.arange(20) % 4
    whole = identity_centers(features, labels)
    cut = int(draw.integers(1, 19))
    parts = directions(unit_sums([features[:cut], features[cut:]], [labels[:cut], labels[cut:]]))
    longer = identity_centers(features * draw.uniform(0.1, 50, (20, 1)), labels)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_allclose(longer, whole, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    assert (np.abs(similarity_to_center(features, labels, whole)) <= 1).all()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("row", [0, 4, 9])
def test_a_row_without_a_direction_is_named_by_its_number_in_the_whole(value, row):
    features = random_features(10)
    features[row] = value
    with pytest.raises(DataError, match=rf"x: row {row} has norm .*, expected finite and above zero"):
        check_rows(features, where="x")
    rows = MappedRows([features[:3], features[3:7], features[7:]], where="x")
    for chosen in (slice(None), np.array([row]), np.arange(9, -1, -1)):
        with pytest.raises(DataError, match=rf"x: row {row} has norm"):
            rows[chosen]
    others = np.delete(np.arange(10), row)
    np.testing.assert_array_equal(rows[others], features[others])
