"""Several tars are one sequence of labeled images."""
# ruff: noqa: N802

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.images.jpeg import decode_rgb
from shards.tars.reader import read_tar
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter

from ..pictures import jpeg, write_tar


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [
        write_tar(tmp_path / "a.tar", [("0", "zoe"), ("1", "anna"), ("2", "zoe")]),
        write_tar(tmp_path / "b.tar", [("3", "bob")]),
        write_tar(tmp_path / "c.tar", [("4", "anna"), ("5", "\u00e9ric")]),
    ]


def one_sample(path: Path, **record: object) -> Path:
    with path.open("wb") as file:
        writer = TarWriter(file)
        writer.add("k", jpg=jpeg(size=32), record=record)
        writer.close()
    return path


def test_random_access_gives_what_streaming_gives(paths):
    shards = ShardSet(paths)
    streamed = [sample for path in paths for sample in read_tar(path)]
    assert len(shards) == 6
    for index in (5, 0, 3, 2, 4, 1):
        assert shards.keys[index] == streamed[index].key
        assert shards.jpeg(index) == streamed[index].jpg
        assert shards.record(index) == streamed[index].record
        np.testing.assert_array_equal(shards.rgb(index), decode_rgb(streamed[index].jpg))
    assert list(shards.records()) == [sample.record for sample in streamed]


def test_labels_are_contiguous_by_sorted_identity(paths):
    shards = ShardSet(paths)
    assert shards.classes == ["anna", "bob", "zoe", "\u00e9ric"]
    assert shards.labels.tolist() == [2, 0, 2, 1, 0, 3]
    assert shards.labels.dtype == np.int64
    assert shards.identities == ["zoe", "anna", "zoe", "bob", "anna", "\u00e9ric"]


def test_labels_do_not_depend_on_the_order_of_tars(paths):
    shards = ShardSet(paths[::-1])
    assert dict(zip(shards.keys, shards.identities, strict=True)) == {
        sample.key: sample.record["identity"] for path in paths for sample in read_tar(path)
    }


@pytest.mark.parametrize("identity", [None, True, 1.5, "", ["a"]])
def test_B32_a_record_without_a_usable_identity_is_refused_with_its_key(tmp_path, identity):
    with pytest.raises(DataError, match=r"x\.tar: k: identity is .*expected text or an integer"):
        ShardSet([one_sample(tmp_path / "x.tar", identity=identity)])


def test_B32_a_missing_identity_is_refused_and_a_number_is_a_name(tmp_path):
    with pytest.raises(DataError, match="identity is None"):
        ShardSet([one_sample(tmp_path / "x.tar")])
    assert ShardSet([one_sample(tmp_path / "y.tar", identity=-7)]).classes == ["-7"]


def test_B41_two_sets_mixed_are_refused_by_their_keys(tmp_path, paths):
    other = write_tar(tmp_path / "other.tar", [("9", "x"), ("3", "bob")])
    with pytest.raises(DataError, match="key 3 is in two tars"):
        ShardSet([*paths, other])


def test_B31_a_set_without_tars_is_refused():
    with pytest.raises(DataError, match="at least one tar"):
        ShardSet([])


def test_B33_a_damaged_tar_is_refused_before_any_image_is_used(paths):
    paths[1].write_bytes(paths[1].read_bytes()[:-10_000])
    with pytest.raises(DataError, match=r"b\.tar"):
        ShardSet(paths)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        writer = TarWriter(file)
        writer.add("broken", jpg=jpeg()[:-100], record={"identity": "a"})
        writer.close()
    with pytest.raises(DataError, match=r"x\.tar: broken: "):
        ShardSet([path]).rgb(0)


@pytest.mark.parametrize("index", [-1, 6])
def test_an_index_outside_the_set_is_refused(paths, index):
    with pytest.raises(IndexError):
        ShardSet(paths).jpeg(index)


def test_descriptors_are_closed_with_the_set(paths):
    before = len(os.listdir("/proc/self/fd"))
    shards = ShardSet(paths)
    assert len(os.listdir("/proc/self/fd")) == before + 3
    shards.close()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        shards.jpeg(0)


def test_a_tar_replaced_while_open_does_not_change_the_set(paths):
    shards = ShardSet(paths)
    before = shards.jpeg(0)
    other = io.BytesIO(b"something else").getvalue()
    paths[0].with_suffix(".part").write_bytes(other)
    paths[0].with_suffix(".part").replace(paths[0])
    assert shards.jpeg(0) == before
