"""The index beside a tar: it holds what a scan finds, and is refused when it does not match."""
# ruff: noqa: N802

from __future__ import annotations

import dataclasses
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.tars.index import TarIndex, index_path, read_index
from shards.tars.reader import OpenTar
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter

from ..pictures import jpeg

SAMPLES = [("000", "zoe"), ("part/001", "\u00e9ric"), ("002", "zoe"), ("003", 7)]


def write(path: Path, samples: list[tuple[str, object]] = SAMPLES) -> Path:  # type: ignore[assignment]
    with path.open("wb") as file:
        tar = TarWriter(file)
        for number, (key, identity) in enumerate(samples):
            tar.add(key, jpg=jpeg(number, size=32), record={"identity": identity, "n": "x" * (600 * number)})
        tar.close()
    index_path(path).write_bytes(tar.index())
    return path


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write(tmp_path / "real-00000.tar")


def test_the_index_equals_a_scan_of_the_tar(tar):
    index = read_index(index_path(tar))
    spans = list(OpenTar(tar).scan())
    assert index.keys == [span.key for span in spans]
    assert index.spans.tolist() == [[s.jpg_at, s.jpg_bytes, s.json_at, s.json_bytes] for s in spans]
    assert [index.classes[label] for label in index.labels] == ["zoe", "\u00e9ric", "zoe", "7"]
    assert index.tar_bytes == tar.stat().st_size


def test_equal_tars_have_equal_indexes(tmp_path, tar):
    assert index_path(write(tmp_path / "other.tar")).read_bytes() == index_path(tar).read_bytes()


def test_a_set_is_the_same_with_and_without_index(tar):
    indexed = ShardSet([tar])
    index_path(tar).unlink()
    scanned = ShardSet([tar])
    assert (indexed.keys, indexed.classes) == (scanned.keys, scanned.classes)
    np.testing.assert_array_equal(indexed.labels, scanned.labels)
    assert list(indexed.records()) == list(scanned.records())
    for row in range(4):
        np.testing.assert_array_equal(indexed.rgb(row), scanned.rgb(row))


def test_B33_B34_a_tar_that_was_cut_does_not_fit_its_index(tar):
    data = tar.read_bytes()
    for size in (len(data) - 10_240, 2048, 0):
        tar.write_bytes(data[:size])
        with pytest.raises(DataError, match=r"real-00000\.tar: \d+ bytes, its index says"):
            ShardSet([tar])


def test_B41_the_index_of_another_tar_is_refused(tmp_path, tar):
    others = [("000", "zoe"), ("part/001", "zoe"), ("002", "zoe"), ("004", "zoe")]
    other = write(tmp_path / "other.tar", others)
    assert other.stat().st_size == tar.stat().st_size
    index_path(other).replace(index_path(tar))
    with pytest.raises(DataError, match=r"004\.jpg is not where the index has it"):
        ShardSet([tar])


@pytest.mark.parametrize("at", [step / 40 for step in range(40)])
def test_a_damaged_index_is_refused_or_still_reads_the_same(tar, at):
    path = index_path(tar)
    data, whole = bytearray(path.read_bytes()), read_index(path)
    data[int(len(data) * at)] ^= 0xFF
    path.write_bytes(data)
    with suppress(DataError):  # unless the byte has no effect, as in the zip's dates
        found = read_index(path)
        assert (found.keys, found.classes, found.tar_bytes) == (whole.keys, whole.classes, whole.tar_bytes)
        np.testing.assert_array_equal(found.spans, whole.spans)
        np.testing.assert_array_equal(found.labels, whole.labels)


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_not_an_index_is_refused(tar, data):
    index_path(tar).write_bytes(data)
    with pytest.raises(DataError, match="not a readable index"):
        ShardSet([tar])


def test_B40_an_index_with_pickles_is_refused_unopened(tar):
    buffer = io.BytesIO()
    np.savez(buffer, keys=np.array([pytest.fail], object), allow_pickle=True)
    index_path(tar).write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="not a readable index"):
        ShardSet([tar])


def wrong(index: TarIndex, **changes: object) -> bytes:
    changed = dataclasses.replace(index, **changes)  # type: ignore[arg-type]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        format=np.frombuffer(b"cemiface-index-1", np.uint8),
        keys=np.frombuffer("\n".join(changed.keys).encode(), np.uint8),
        spans=changed.spans,
        classes=np.frombuffer(b'["a", "b", "c"]', np.uint8),
        labels=changed.labels,
        tar_bytes=np.int64(changed.tar_bytes),
    )
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda index: {"keys": index.keys[:-1]},
        lambda index: {"spans": index.spans[::-1]},
        lambda index: {"spans": index.spans + 10**9},
        lambda index: {"spans": index.spans - 10**9},
        lambda index: {"spans": index.spans.astype(np.float64)},
        lambda index: {"labels": index.labels + 3},
        lambda index: {"labels": index.labels - 1},
        lambda index: {"labels": index.labels[1:]},
    ],
)
def test_an_index_that_contradicts_itself_is_refused(tar, change):
    index = read_index(index_path(tar))
    index_path(tar).write_bytes(wrong(index, **change(index)))
    with pytest.raises(DataError, match="not an index of format"):
        ShardSet([tar])


def test_samples_without_identity_are_named(tmp_path):
    path = write(tmp_path / "x.tar", [("a", "zoe"), ("b", None)])
    for _ in range(2):
        with pytest.raises(DataError, match=r"x\.tar: b: identity is None"):
            ShardSet([path])
        index_path(path).unlink(missing_ok=True)
