"""How samples are split over tars, and which of them are selected, changes nothing about the samples themselves."""

from __future__ import annotations

import io
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.tars import ustar
from shards.tars.index import IndexWriter, identity_name, index_path, read_index
from shards.tars.loader import batches
from shards.tars.manifest import NAME, Manifest, Shard, describe_shard, manifest_bytes, read_manifest
from shards.tars.reader import OpenTar, read_tar
from shards.tars.shard_set import ShardSet
from shards.tars.subset import Subset
from shards.tars.writer import TarWriter

from ..pictures import jpeg, write_tar

IMAGES = [jpeg(seed, size=16) for seed in range(12)]

RECORDS = [{"identity": f"person {seed * 7 % 5}", "n": seed, "text": "é" * seed} for seed in range(12)]


def write(path: Path, rows: list[int], *, index: bool) -> Path:
    with path.open("wb") as file:
        tar = TarWriter(file)
        for row in rows:
            tar.add(f"{row:04d}", jpg=IMAGES[row], record=RECORDS[row])
        tar.close()
    if index:
        index_path(path).write_bytes(tar.index())
    return path


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return ShardSet(
        [write(tmp_path / "a.tar", list(range(7)), index=True), write(tmp_path / "b.tar", [7, 8], index=False)]
    )


@pytest.mark.parametrize("seed", range(12))
def test_any_split_over_tars_with_or_without_indexes_gives_the_same_set(tmp_path, seed):
    draw = random.Random(seed)
    cuts = [0, *sorted(draw.sample(range(1, 12), draw.randint(0, 6))), 12]
    paths = [
        write(tmp_path / f"{number}.tar", list(range(*ends)), index=draw.random() < 0.5)
        for number, ends in enumerate(itertools.pairwise(cuts))
    ]
    whole, split = ShardSet([write(tmp_path / "whole.tar", list(range(12)), index=True)]), ShardSet(paths)
    assert (split.keys, split.classes, split.identities) == (whole.keys, whole.classes, whole.identities)
    np.testing.assert_array_equal(split.labels, whole.labels)
    assert list(split.records()) == list(whole.records()) == RECORDS
    assert [split.jpeg(row) for row in range(12)] == IMAGES
    assert [sample.record for path in paths for sample in read_tar(path)] == RECORDS
    assert sum(describe_shard(path, samples=1).bytes for path in paths) == sum(p.stat().st_size for p in paths)


@pytest.mark.parametrize("seed", range(8))
def test_a_subset_has_the_images_asked_for_in_their_order_and_labels_without_gaps(shards, seed):
    rows = np.random.default_rng(seed).integers(0, len(shards), 1 + seed)
    subset = Subset(shards, rows)
    assert len(subset) == len(rows)
    assert subset.keys == [shards.keys[row] for row in rows]
    assert [subset.classes[label] for label in subset.labels] == [shards.identities[row] for row in rows]
    assert subset.classes == sorted(set(subset.classes))
    assert set(subset.labels.tolist()) == set(range(len(subset.classes)))
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(subset.rgb(place), shards.rgb(int(row)))


def test_a_subset_without_images_is_refused(shards):
    with pytest.raises(DataError, match="a subset needs at least one image, got none"):
        Subset(shards, np.empty(0, np.int64))


def test_batches_of_a_subset_show_its_images_and_no_others(shards):
    subset = Subset(shards, np.array([8, 0, 3]))
    stream = batches(subset, batch=3, seed=4, start=0, flip=False)
    first = next(stream)
    stream.close()
    assert sorted(first.indices.tolist()) == [0, 1, 2]
    for place, row in enumerate(first.indices):
        np.testing.assert_array_equal(first.images[place], subset.rgb(int(row)))


def test_an_image_of_another_size_stops_the_batch_with_both_keys(tmp_path):
    small, large = write_tar(tmp_path / "a.tar", [("s", "a")]), write_tar(tmp_path / "b.tar", [("l", "a")], size=48)
    for paths in ([small, large], [large, small]):
        with pytest.raises(DataError, match=r"[ls] is \((32|48), (32|48)\), [ls] is \(.*\); one size is needed"):
            next(batches(ShardSet(paths), batch=2, seed=0, start=0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch: got 0 for world size 1, expected a positive multiple of it"),
        ({"batch": 4, "world_size": 3}, "batch: got 4 for world size 3"),
        ({"world_size": 0}, "for world size 0"),
        ({"rank": 1}, "rank: got 1, allowed are 0 to 0"),
        ({"rank": -1}, "rank: got -1"),
        ({"start": -1}, "got start -1 and threads 2, allowed are start >= 0 and threads >= 1"),
        ({"threads": 0}, "threads 0"),
        ({"seed": -1}, r"seed: got -1, allowed are 0 to 2\*\*63 - 1"),
        ({"seed": 2**63}, "seed: got 9223372036854775808"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once_with_what_is_allowed(shards, options, words):
    with pytest.raises(DataError, match=words):
        batches(shards, **{"batch": 2, "seed": 0, "start": 0, **options})


@pytest.mark.parametrize("row", [-1, 9])
def test_a_record_or_image_outside_the_set_is_refused(shards, row):
    for read in (shards.record, shards.jpeg):
        with pytest.raises(IndexError, match=f"image {row} of 9"):
            read(row)


def test_a_row_is_found_by_its_key_and_by_its_identity(shards):
    assert [shards.row_of(key) for key in shards.keys] == list(range(9))
    for name in shards.classes:
        assert shards.row_of(name) == shards.identities.index(name)
    with pytest.raises(ValueError, match="is not in list"):
        shards.row_of("nobody")


def test_an_index_cut_anywhere_is_refused(tmp_path):
    path = index_path(write(tmp_path / "a.tar", list(range(5)), index=True))
    whole = path.read_bytes()
    for size in range(0, len(whole), 19):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"a\.index\.npz: not a readable index .*; remove it and run again"):
            read_index(path)


@pytest.mark.parametrize("seed", range(6))
def test_an_index_with_damaged_bytes_is_refused_or_reads_the_same(tmp_path, seed):
    path = index_path(write(tmp_path / "a.tar", list(range(5)), index=True))
    whole, data, draw = read_index(path), path.read_bytes(), random.Random(seed)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 1, 4])):
            damaged[draw.randrange(len(data))] = draw.choice([0, 1, 8, 12, 255, draw.randrange(256)])
        path.write_bytes(damaged)
        try:
            found = read_index(path)
        except DataError:
            continue
        assert (found.keys, found.classes, found.tar_bytes) == (whole.keys, whole.classes, whole.tar_bytes)
        np.testing.assert_array_equal(found.spans, whole.spans)


def test_members_of_an_index_that_are_deflated_wrongly_are_refused(tmp_path):
    """One byte of a zip's directory says how a member is packed; 8 is deflate."""
    path = index_path(write(tmp_path / "a.tar", [0, 1], index=True))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 10
    data[at] = 8
    path.write_bytes(data)
    with pytest.raises(DataError, match="not a readable index"):
        read_index(path)


@pytest.mark.parametrize(
    "change",
    [
        {"tar_bytes": np.array([1, 2])},
        {"classes": b"7"},
        {"classes": b"null"},
        {"classes": b'{"a": 1}'},
        {"classes": b"[1, 2]"},
        {"classes": b"[" * 100_000},
        {"labels": np.zeros(2, np.float64)},
        {"labels": np.zeros((2, 1), np.int32)},
        {"spans": np.zeros(8, np.int64)},
        {"spans": np.zeros((2, 4), "U1")},
        {"keys": b"\xff\n\xff"},
        {"format": b"cemiface-index-9"},
    ],
)
def test_an_index_with_values_of_another_kind_is_refused(tmp_path, change):
    path = index_path(write(tmp_path / "a.tar", [0, 1], index=True))
    with np.load(path) as file:
        values = dict(file)
    for name, value in change.items():
        values[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"a\.index\.npz: not .*; remove it and run again"):
        read_index(path)


@pytest.mark.parametrize(
    ("identity", "name"),
    [("anna", "anna"), (7, "7"), (0, "0"), (-1, "-1"), ("", None), (True, None), (None, None), (1.0, None), ([], None)],
)
def test_an_identity_is_a_text_or_an_integer(identity, name):
    assert identity_name(identity) == name
    index = IndexWriter()
    index.add("k", identity=identity, jpg=(512, 1), json=(1536, 1))
    assert index.done(tar_bytes=10_240).classes == [name or ""]


def test_a_manifest_cut_anywhere_is_refused_unless_only_its_last_line_feed_is_missing(tmp_path):
    shard = Shard(name="a.tar", bytes=10_240, sha256="0" * 64, samples=3)
    whole = manifest_bytes(Manifest.of([shard], private=True))
    path = tmp_path / NAME
    for size in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"manifest\.json: invalid JSON"):
            read_manifest(path)
    path.write_bytes(whole[:-1])
    assert manifest_bytes(read_manifest(path)) == whole


@pytest.mark.parametrize("field", ["format", "private", "shards", "totals"])
def test_a_manifest_needs_every_field_that_has_no_default(tmp_path, field):
    value = json.loads(manifest_bytes(Manifest.of([], private=False)))
    del value[field]
    (tmp_path / NAME).write_text(json.dumps(value))
    if field == "format":
        assert read_manifest(tmp_path / NAME).format == "cemiface-manifest-1"
        return
    with pytest.raises(DataError, match=rf"manifest\.json: {field}: Field required"):
        read_manifest(tmp_path / NAME)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 8**11 - 1])
def test_a_header_is_parsed_as_it_was_written(size):
    found = ustar.parse(ustar.header("part/key.jpg", size))
    assert found is not None
    assert (found.name, found.bytes, found.regular) == ("part/key.jpg", size, True)
    assert found.padded % ustar.BLOCK == 0 <= found.padded - size < ustar.BLOCK


def test_a_block_that_is_no_header_is_refused_with_the_reason():
    block = bytearray(ustar.header("a.jpg", 1))
    assert ustar.parse(bytes(ustar.BLOCK)) is None
    with pytest.raises(ValueError, match="511 bytes instead of 512"):
        ustar.parse(bytes(block[:-1]))
    block[0] ^= 1
    with pytest.raises(ValueError, match="wrong checksum"):
        ustar.parse(bytes(block))
    with pytest.raises(ValueError, match="not plain USTAR; repack it with tar --format=ustar"):
        ustar.parse(_summed(ustar.header("a.jpg", 1).replace(b"ustar\x0000", b"ustar  \0")))


def _summed(block: bytes) -> bytes:
    total = sum(block) - sum(block[ustar.CHECKSUM]) + 8 * ord(" ")
    return block[: ustar.CHECKSUM.start] + b"%06o\0 " % total + block[ustar.CHECKSUM.stop :]


def test_a_closed_tar_reads_nothing_of_a_file_opened_since(tmp_path):
    tar = OpenTar(write(tmp_path / "a.tar", [0], index=False))
    tar.close()
    with (tmp_path / "other").open("wb"), pytest.raises(OSError, match="Bad file descriptor"):
        tar.read(0, 1)
