"""Embeddings are stored reproducibly, joined without copying, and refused when a row is unusable."""
# ruff: noqa: N802

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from shards.embeddings.centers import identity_centers, similarity_to_center
from shards.embeddings.classifier import classifier_bytes
from shards.embeddings.embeddings import (
    Embeddings,
    embeddings_bytes,
    merged_bytes,
    open_merged,
    read_embeddings,
    with_similarity,
)
from shards.errors import DataError

WIDTH = 8


def embeddings(seed: int, identities: list[str]) -> Embeddings:
    rng = np.random.default_rng(seed)
    features, flipped = rng.normal(size=(2, len(identities), WIDTH)).astype(np.float32) * 7
    keys = [f"{seed}-{row}" for row in range(len(identities))]
    return with_similarity(keys, identities=identities, features=features, flipped=flipped)


def read_whole(path: Path) -> SimpleNamespace:
    """A joining file with all rows in memory."""
    opened = open_merged(path)
    return SimpleNamespace(**{**vars(opened), "features": opened.features[:], "flipped": opened.flipped[:]})


def assert_same(one: Any, other: Any) -> None:
    assert (one.keys, one.identities) == (other.keys, other.identities)
    for name in ("features", "flipped", "similarity"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "embed"
    folder.mkdir()
    paths = []
    for seed, identities in enumerate([["zoe", "anna", "anna"], ["zoe", "\u00e9ric"], ["bob"]]):
        path = folder / f"embeddings-{seed:05d}.h5"
        path.write_bytes(embeddings_bytes(embeddings(seed, identities), embedder="net"))
        paths.append(path)
    return paths


@pytest.fixture
def merged(parts: list[Path]) -> Path:
    path = parts[0].with_name("embeddings.h5")
    path.write_bytes(merged_bytes(parts))
    return path


def test_embeddings_are_read_back_as_written(tmp_path):
    whole = embeddings(0, ["zoe", "\u00e9ric", "zoe"])
    path = tmp_path / "x.h5"
    path.write_bytes(embeddings_bytes(whole, embedder="net"))
    assert_same(read_embeddings(path), whole)


def test_equal_embeddings_give_equal_bytes_without_time_stamps(parts, merged):
    again = embeddings_bytes(embeddings(0, ["zoe", "anna", "anna"]), embedder="net")
    assert parts[0].read_bytes() == again
    assert merged.read_bytes() == merged_bytes(parts)
    for path in (parts[0], merged):
        with h5py.File(path) as file:
            assert {name: h5py.h5g.get_objinfo(file.id, name.encode()).mtime for name in file} == dict.fromkeys(file, 0)


def test_a_center_is_the_mean_direction_and_similarity_the_cosine_to_it():
    features = np.array([[10, 0], [0, 0.1], [-3, 0]], np.float32)
    labels = np.array([0, 0, 1])
    centers = identity_centers(features, labels)
    np.testing.assert_allclose(centers, [[0.5**0.5, 0.5**0.5], [-1, 0]], rtol=1e-6)
    np.testing.assert_allclose(similarity_to_center(features, labels, centers), [0.5**0.5, 0.5**0.5, 1], rtol=1e-6)


def test_embeddings_that_cancel_out_have_no_center():
    with pytest.raises(DataError, match="identity 0: its embeddings cancel out"):
        identity_centers(np.array([[1, 0], [-1, 0]], np.float32), np.array([0, 0]))


def test_merging_joins_the_rows_and_takes_centers_over_all_tars(parts, merged):
    whole = read_whole(merged)
    each = [read_embeddings(path) for path in parts]
    assert whole.keys == [key for part in each for key in part.keys]
    assert whole.identities == ["zoe", "anna", "anna", "zoe", "\u00e9ric", "bob"]
    np.testing.assert_array_equal(whole.features, np.concatenate([part.features for part in each]))
    np.testing.assert_array_equal(whole.flipped, np.concatenate([part.flipped for part in each]))
    assert whole.classes == ["anna", "bob", "zoe", "\u00e9ric"]
    assert whole.labels.tolist() == [2, 0, 0, 2, 3, 1]
    np.testing.assert_allclose(whole.centers, identity_centers(whole.features, whole.labels), atol=1e-6)
    np.testing.assert_allclose(
        whole.similarity, similarity_to_center(whole.features, whole.labels, whole.centers), atol=1e-6
    )
    assert whole.embedder == "net"


def test_merging_copies_no_features(parts):
    wide = np.random.default_rng(0).normal(size=(500, 512)).astype(np.float32)
    for number, path in enumerate(parts):
        names = [f"{number}-{row}" for row in range(500)]
        part = with_similarity(names, identities=["a"] * 500, features=wide, flipped=wide)
        path.write_bytes(embeddings_bytes(part, embedder="net"))
    assert len(merged_bytes(parts)) < sum(path.stat().st_size for path in parts) / 50


def test_the_folder_can_be_moved(merged, tmp_path, monkeypatch):
    before = read_whole(merged)
    moved = merged.parent.rename(tmp_path / "elsewhere")
    assert_same(read_whole(moved / merged.name), before)
    monkeypatch.chdir(moved)
    assert_same(read_whole(Path(merged.name)), before)


def test_a_missing_part_is_named(parts, merged):
    parts[1].unlink()
    with pytest.raises(DataError, match=r"embeddings-00001\.h5' is not in the same folder"):
        read_whole(merged)


def test_a_part_replaced_by_one_with_fewer_rows_is_refused(parts, merged):
    parts[1].write_bytes(embeddings_bytes(embeddings(9, ["zoe"]), embedder="net"))
    with pytest.raises(DataError, match=r"embeddings\.h5: features cannot be read, was a file replaced\?"):
        read_whole(merged)


def test_a_joining_file_that_points_outside_its_folder_is_refused(parts, merged, tmp_path):
    (tmp_path / "private.h5").write_bytes(parts[0].read_bytes())
    with h5py.File(merged, "a") as file:
        del file["features"]
        layout = h5py.VirtualLayout((6, WIDTH), np.float32)
        layout[:3] = h5py.VirtualSource("../private.h5", "features", shape=(3, WIDTH), dtype=np.float32)
        file.create_virtual_dataset("features", layout)
    with pytest.raises(DataError, match=r"its part '\.\./private\.h5' is not in the same folder"):
        read_whole(merged)


def test_incompatible_parts_are_refused(parts):
    parts[1].write_bytes(embeddings_bytes(embeddings(5, ["zoe"]), embedder="other net"))
    with pytest.raises(DataError, match="embedder or width differs"):
        merged_bytes(parts)
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(DataError, match="a key appears twice"):
        merged_bytes(parts)
    with pytest.raises(DataError, match="one folder"):
        merged_bytes([parts[0], Path("elsewhere.h5")])
    with pytest.raises(DataError, match="at least one"):
        merged_bytes([])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "row 2 has norm nan"),
        (np.inf, "row 2 has norm inf"),  # as 70,000 becomes in float16
        (0.0, "row 2 has norm 0"),
        (3e38, "row 2 has norm inf"),
    ],
)
@pytest.mark.parametrize("name", ["features", "flipped"])
def test_B43_unusable_rows_are_refused_with_their_number(tmp_path, name, value, words):
    whole = embeddings(0, ["a", "b", "c"])
    getattr(whole, name)[2] = value
    with pytest.raises(DataError, match=f"{name}: {words}"):
        embeddings_bytes(whole, embedder="net")
    path = tmp_path / "x.h5"
    path.write_bytes(embeddings_bytes(embeddings(0, ["a", "b", "c"]), embedder="net"))
    with h5py.File(path, "a") as file:
        file[name][2] = value
    with pytest.raises(DataError, match=rf"x\.h5: {name}: {words}"):
        read_embeddings(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": ["a"]},
        {"identities": ["a"]},
        {"flipped": np.ones((3, WIDTH + 1), np.float32)},
        {"features": np.ones((2, WIDTH), np.float32)},
        {"similarity": np.ones(2, np.float32)},
    ],
)
def test_B43_wrong_width_or_length_is_refused(wrong):
    with pytest.raises(DataError, match="embeddings: "):
        embeddings_bytes(dataclasses.replace(embeddings(0, ["a", "b", "c"]), **wrong), embedder="net")


def test_similarities_may_be_zero_or_negative_but_not_nan():
    whole = embeddings(0, ["a", "b", "c"])
    embeddings_bytes(dataclasses.replace(whole, similarity=np.array([0, -1, 1], np.float32)), embedder="net")
    with pytest.raises(DataError, match="similarity: row 1"):
        embeddings_bytes(dataclasses.replace(whole, similarity=np.array([0, np.nan, 1], np.float32)), embedder="net")


def test_files_of_another_kind_are_refused_in_one_line(tmp_path, parts):
    text = tmp_path / "x.h5"
    text.write_bytes(b"not hdf5")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(parts[0].read_bytes()[:1000])
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["features"] = np.ones((3, 4))
    for name in ("x.h5", "cut.h5", "foreign.h5", "missing.h5"):
        with pytest.raises(DataError, match=name) as caught:
            read_embeddings(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="joins no files"):
        read_whole(parts[0])


@pytest.mark.parametrize("name", ["keys", "identities", "features", "flipped", "similarity"])
def test_missing_or_mistyped_datasets_are_named(parts, name):
    with h5py.File(parts[0], "a") as file:
        del file[name]
    with pytest.raises(DataError, match=f"'{name}' is missing"):
        read_embeddings(parts[0])
    with h5py.File(parts[0], "a") as file:
        file[name] = np.ones(3, np.float64)
    with pytest.raises(DataError, match=f"{name} is float64"):
        read_embeddings(parts[0])


def test_an_open_set_reads_only_the_requested_rows(parts, merged):
    whole, opened = read_whole(merged), open_merged(merged)
    assert opened.features.shape == whole.features.shape
    for rows in (slice(1, 5), slice(None), np.array([5, 0, 3, 3]), np.array([], np.int64)):
        np.testing.assert_array_equal(opened.features[rows], whole.features[rows])
        np.testing.assert_array_equal(opened.flipped[rows], whole.flipped[rows])
    assert (opened.keys, opened.classes, opened.embedder) == (whole.keys, whole.classes, whole.embedder)


def test_B43_an_open_set_refuses_an_unusable_row_when_it_is_read(parts, merged):
    with h5py.File(parts[1], "a") as file:
        file["flipped"][1] = np.nan
    opened = open_merged(merged)
    assert len(opened.flipped[:4]) == 4
    for rows in (slice(None), np.array([0, 4])):
        with pytest.raises(DataError, match=r"embeddings\.h5: flipped: row 4 has norm nan"):
            opened.flipped[rows]


@pytest.mark.long
def test_an_open_set_larger_than_its_memory_limit_is_read_in_blocks(tmp_path):
    """200 MB of features under a limit of 100 MB above what the imports take."""
    wide = np.random.default_rng(0).normal(size=(25_000, 512)).astype(np.float32)
    paths = []
    for number in range(4):
        names = [f"{number}-{row}" for row in range(len(wide))]
        part = with_similarity(names, identities=["a"] * len(wide), features=wide, flipped=wide)
        paths.append(tmp_path / f"embeddings-{number:05d}.h5")
        paths[-1].write_bytes(embeddings_bytes(part, embedder="net"))
    joined = tmp_path / "embeddings.h5"
    joined.write_bytes(merged_bytes(paths))
    code = (
        "import sys\nfrom pathlib import Path\nfrom shards.embeddings.embeddings import open_merged\n"
        "def anonymous(): return int(open('/proc/self/status').read().split('RssAnon:')[1].split()[0])\n"
        "before = anonymous()\nopened = open_merged(Path(sys.argv[1]))\n"
        "total = sum(float(opened.features[at : at + 5000].sum()) for at in range(0, len(opened.features), 5000))\n"
        "print(total, anonymous() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(joined)], capture_output=True, text=True, check=True)
    total, kilobytes = map(float, done.stdout.split())
    assert total == pytest.approx(4 * wide.astype(float).sum(), rel=1e-2, abs=100)
    assert kilobytes < 100_000


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    weight = np.random.default_rng(5).normal(size=(5, WIDTH)).astype(np.float32) * 3
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(classifier_bytes(weight, classes=["zoe", "extra", "anna", "bob", "\u00e9ric"]))
    return path


def test_centers_may_be_the_weight_rows_of_a_classifier(parts, classifier):
    path = parts[0].with_name("embeddings.h5")
    path.write_bytes(merged_bytes(parts, classifier=classifier))
    whole = read_whole(path)
    weight = np.random.default_rng(5).normal(size=(5, WIDTH)).astype(np.float32)[[2, 3, 0, 4]]
    np.testing.assert_allclose(whole.centers, weight / np.linalg.norm(weight, axis=1, keepdims=True), rtol=1e-5)
    cosines = similarity_to_center(whole.features, whole.labels, whole.centers)
    np.testing.assert_allclose(whole.similarity, cosines, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "classes", "words"),
    [
        (np.ones((4, WIDTH + 1)), ["anna", "bob", "zoe", "\u00e9ric"], "weight rows have 9 values, the embeddings 8"),
        (np.ones((2, WIDTH)), ["anna", "bob"], "no weight row for 2 of 4 identities \\(first: 'zoe'\\)"),
        (np.zeros((4, WIDTH)), ["anna", "bob", "zoe", "\u00e9ric"], "the row of 'anna' has norm 0"),
        (np.full((4, WIDTH), np.nan), ["anna", "bob", "zoe", "\u00e9ric"], "the row of 'anna' has norm nan"),
    ],
)
def test_B43_a_classifier_that_does_not_fit_is_refused(parts, tmp_path, weight, classes, words):
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(classifier_bytes(weight, classes=classes))
    with pytest.raises(DataError, match=words):
        merged_bytes(parts, classifier=path)


@pytest.mark.parametrize("data", [b"", b"text", b"version https://git-lfs.github.com/spec/v1\n"])
def test_B44_a_file_that_is_not_a_classifier_is_refused_in_one_line(parts, tmp_path, data):
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(data)
    for wrong in (path, tmp_path / "missing"):
        with pytest.raises(DataError, match="not a classifier") as caught:
            merged_bytes(parts, classifier=wrong)
        assert "\n" not in str(caught.value)


def test_flipped_rows_come_from_the_mirror_images(parts, merged):
    whole, opened = read_whole(merged), open_merged(merged)
    rows, flips = np.array([5, 0, 3, 3]), np.array([True, False, True, False])
    expected = [whole.flipped[5], whole.features[0], whole.flipped[3], whole.features[3]]
    np.testing.assert_array_equal(opened.of(rows, flips=flips), expected)
