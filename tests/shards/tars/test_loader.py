"""Batches are a pure function of (seed, position): not of ranks, threads or where training started."""
# ruff: noqa: N802

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.tars.loader import Batch, batches, image_order
from shards.tars.shard_set import ShardSet

from ..pictures import write_tar

COUNT = 14


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("loader")
    names = [(f"{index:04d}", f"id{index % 5}") for index in range(COUNT)]
    return ShardSet([write_tar(folder / "a.tar", names[:9]), write_tar(folder / "b.tar", names[9:])])


def take(stream: Generator[Batch, None, None], count: int) -> list[Batch]:
    taken = list(itertools.islice(stream, count))
    stream.close()
    return taken


def joined(parts: list[Batch]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "flips", "images"))  # type: ignore[return-value]


def assert_same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch():
    orders = [image_order(1000, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert len({order.tobytes() for order in orders}) == 4
    np.testing.assert_array_equal(orders[3], image_order(1000, seed=1, epoch=1))


def test_the_order_matches_the_recorded_one():
    assert image_order(10, seed=7, epoch=2).tolist() == [1, 9, 3, 8, 0, 6, 4, 7, 5, 2]


def test_every_epoch_shows_every_image_once(shards):
    indices, _, _ = joined(take(batches(shards, batch=4, seed=3, start=0), 14))
    for epoch in range(4):
        part = indices[epoch * COUNT : (epoch + 1) * COUNT]
        np.testing.assert_array_equal(part, image_order(COUNT, seed=3, epoch=epoch))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_see_what_one_rank_sees(shards, world_size):
    alone = take(batches(shards, batch=6, seed=1, start=0), 5)
    ranks = [
        take(batches(shards, batch=6, seed=1, start=0, rank=rank, world_size=world_size), 5)
        for rank in range(world_size)
    ]
    for step, whole in enumerate(alone):
        assert_same(joined([part[step] for part in ranks]), joined([whole]))
        assert {part[step].position for part in ranks} == {whole.position} == {step * 6}


@pytest.mark.parametrize("start", [0, 1, 13, 14, 15, 60, 1_000_003])
def test_resuming_at_a_position_continues_the_same_batches(shards, start):
    stop = start + 8
    (resumed,) = take(batches(shards, batch=8, seed=5, start=start), 1)
    order = np.concatenate([image_order(COUNT, seed=5, epoch=start // COUNT + step) for step in range(2)])
    np.testing.assert_array_equal(resumed.indices, order[start % COUNT :][:8])
    assert resumed.position == start
    (later,) = take(batches(shards, batch=5, seed=5, start=stop - 5), 1)
    assert_same(joined([later]), tuple(part[-5:] for part in joined([resumed])))


def test_the_number_of_threads_changes_nothing(shards):
    runs = [joined(take(batches(shards, batch=4, seed=2, start=0, threads=threads), 9)) for threads in (1, 2, 5)]
    assert_same(runs[0], runs[1])
    assert_same(runs[0], runs[2])


def test_images_are_mirrored_where_flips_is_true(shards):
    indices, flips, images = joined(take(batches(shards, batch=8, seed=4, start=0), 25))
    assert 60 < flips.sum() < 140
    for index, flip, image in zip(indices, flips, images, strict=True):
        rgb = shards.rgb(int(index))
        np.testing.assert_array_equal(image, rgb[:, ::-1] if flip else rgb)


def test_flips_can_be_turned_off(shards):
    indices, flips, _ = joined(take(batches(shards, batch=8, seed=4, start=0, flip=False), 5))
    assert not flips.any()
    np.testing.assert_array_equal(indices, joined(take(batches(shards, batch=8, seed=4, start=0), 5))[0])


def test_batch_arrays_are_contiguous_and_typed(shards):
    (batch,) = take(batches(shards, batch=3, seed=0, start=0), 1)
    assert batch.images.flags.c_contiguous
    assert (batch.images.dtype, batch.images.shape) == (np.uint8, (3, 32, 32, 3))
    assert (batch.indices.dtype, batch.flips.dtype) == (np.int64, np.bool_)


def test_B31_a_set_smaller_than_the_batch_repeats_epochs_inside_it(tmp_path):
    few = ShardSet([write_tar(tmp_path / "x.tar", [("0", "a"), ("1", "b"), ("2", "c")])])
    indices, _, _ = joined(take(batches(few, batch=12, seed=0, start=0), 1))
    np.testing.assert_array_equal(np.bincount(indices), [4, 4, 4])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch": 7, "world_size": 2}, "batch: got 7 for world size 2"),
        ({"batch": 0}, "batch: got 0"),
        ({"rank": 2, "world_size": 2}, "rank: got 2"),
        ({"rank": -1}, "rank: got -1"),
        ({"start": -1}, "start -1"),
        ({"threads": 0}, "threads 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 2**63}, "seed: got 9223372036854775808"),
    ],
)
def test_B31_impossible_settings_are_refused_at_once(shards, wrong, words):
    with pytest.raises(DataError, match=words):
        batches(shards, **({"batch": 4, "seed": 0, "start": 0} | wrong))


def test_images_of_several_sizes_are_refused_with_their_keys(tmp_path):
    mixed = ShardSet(
        [write_tar(tmp_path / "a.tar", [("small", "a")]), write_tar(tmp_path / "b.tar", [("large", "b")], size=48)]
    )
    with pytest.raises(DataError, match=r"(small is \(32, 32\), large is \(48, 48\)|large is .*, small is .*)"):
        next(batches(mixed, batch=2, seed=0, start=0))


def decoding() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_closing_the_stream_stops_its_threads(shards):
    stream = batches(shards, batch=4, seed=0, start=0, threads=3)
    next(stream)
    assert decoding()
    stream.close()
    assert not decoding()


def test_an_error_stops_the_threads_too(tmp_path: Path):
    path = write_tar(tmp_path / "x.tar", [("0", "a"), ("1", "b")])
    stream = batches(ShardSet([path]), batch=2, seed=0, start=0)
    next(stream)
    with path.open("r+b") as file:
        file.truncate(600)
    with pytest.raises(DataError, match=r"x\.tar"):
        list(stream)
    assert not decoding()


def _children() -> set[str]:
    """Processes whose parent is this one."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it is gone
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            if parent == str(os.getpid()) and state != "Z":
                found.add(path.parent.name)
    return found


def test_F16_decoding_starts_no_process_that_a_signal_could_reach(shards: ShardSet) -> None:
    before = _children()
    with subprocess.Popen(["sleep", "600"]) as seen:
        assert _children() == before | {str(seen.pid)}
        stream = batches(shards, batch=4, seed=1, start=0)
        next(stream)
        during = _children()
        stream.close()
        seen.kill()
    assert during == before | {str(seen.pid)}
