"""Batches of decoded images in an order that is a pure function of (seed, position).

A position counts images since the start of training, over all ranks. Position p is element p % n of epoch p // n,
so a training run resumes exactly from its last position, on any number of ranks, with no loader state saved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from shards.errors import DataError
from shards.images.jpeg import empty_images
from shards.tars.subset import LabeledImages

ORDER, FLIP = 1, 2  # purposes of random numbers


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The images of one rank in one step.

    Attributes:
        position: images seen by all ranks before this batch.
        indices: (n,) int64 into the shard set.
        flips: (n,) bool, True where the image was mirrored.
        images: (n, H, W, 3) uint8, already mirrored where `flips` says so.
    """

    position: int
    indices: np.ndarray
    flips: np.ndarray
    images: np.ndarray


def image_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The permutation of `count` images in one epoch, int64.

    Sorts random words instead of using numpy's shuffle, which may change between versions; Philox words cannot.
    """
    return np.argsort(_words(0, count, seed=seed, stream=epoch, purpose=ORDER), kind="stable")


def batches(
    shards: LabeledImages,
    *,
    batch: int,
    seed: int,
    start: int,
    rank: int = 0,
    world_size: int = 1,
    flip: bool = True,
    threads: int = 2,
) -> Generator[Batch, None, None]:
    """Endless batches of this rank from position `start` on.

    A global batch is `batch` consecutive positions; rank r takes its r-th equal part. All images must have one size.
    Whole batches are decoded ahead by `threads` threads (the decoder releases the GIL); closing the generator
    stops them.

    Raises:
        DataError: batch, rank and world size do not fit together, or an image cannot be decoded.
    """
    if batch < 1 or world_size < 1 or batch % world_size:
        raise DataError(f"batch: got {batch} for world size {world_size}, expected a positive multiple of it")
    if not 0 <= rank < world_size:
        raise DataError(f"rank: got {rank}, allowed are 0 to {world_size - 1}")
    if start < 0 or threads < 1:
        raise DataError(f"got start {start} and threads {threads}, allowed are start >= 0 and threads >= 1")
    if not 0 <= seed < 2**63:
        raise DataError(f"seed: got {seed}, allowed are 0 to 2**63 - 1")
    return _stream(_Positions(shards, batch, seed, rank, world_size, flip), start=start, threads=threads)


def _stream(plan: _Positions, *, start: int, threads: int) -> Generator[Batch, None, None]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    ahead: deque[Future[Batch]] = deque()
    try:
        while True:
            while len(ahead) <= threads:
                ahead.append(pool.submit(_decoded, plan.shards, start, *plan.choose(start)))
                start += plan.batch
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Positions:
    """Which images one rank takes at a position; keeps the order of the current epoch."""

    def __init__(self, shards: LabeledImages, batch: int, seed: int, rank: int, world_size: int, flip: bool) -> None:
        self.shards, self.batch, self.seed, self.flip = shards, batch, seed, flip
        self._share = batch // world_size
        self._offset = rank * self._share
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def choose(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and flips of this rank's part of the global batch at `position`."""
        first, count = position + self._offset, len(self.shards)
        indices = np.empty(self._share, np.int64)
        done = 0
        while done < self._share:
            epoch, element = divmod(first + done, count)
            if epoch != self._epoch:
                self._epoch, self._order = epoch, image_order(count, seed=self.seed, epoch=epoch)
            part = self._order[element : element + self._share - done]
            indices[done : done + len(part)] = part
            done += len(part)
        if not self.flip:
            return indices, np.zeros(self._share, bool)
        return indices, _words(first, self._share, seed=self.seed, stream=0, purpose=FLIP) >> np.uint64(63) == 1


def _decoded(shards: LabeledImages, position: int, indices: np.ndarray, flips: np.ndarray) -> Batch:
    first = shards.rgb(int(indices[0]))
    images = empty_images(len(indices), *first.shape)
    images[0] = first
    for row in range(1, len(indices)):
        _decode_into(images, row, shards, index=int(indices[row]), first=int(indices[0]))
    pixels = images.view("V3")[..., 0]  # whole pixels move in half the time of three channels
    for mirrored in np.flatnonzero(flips):
        pixels[mirrored] = pixels[mirrored, :, ::-1]
    return Batch(position=position, indices=indices, flips=flips, images=images)


def _decode_into(images: np.ndarray, row: int, shards: LabeledImages, *, index: int, first: int) -> None:
    """Decode into the batch itself, which saves a copy."""
    try:
        shape = shards.rgb(index, out=images[row]).shape
    except DataError:
        shape = shards.rgb(index).shape  # raises again, unless it only was too large
    if shape != images.shape[1:]:
        key, other = shards.keys[index], shards.keys[first]
        raise DataError(f"{key} is {shape[:2]}, {other} is {images.shape[1:3]}; one size is needed")


def _words(first: int, count: int, *, seed: int, stream: int, purpose: int) -> np.ndarray:
    """Words first..first+count-1 of the Philox stream (seed, stream, purpose), uint64.

    The words before `first` are not generated: Philox (Salmon et al., SC 2011) is counter based, with four words
    per counter value.
    """
    block, skip = divmod(first, 4)
    generator = np.random.Philox(
        key=np.array([seed, stream], np.uint64), counter=np.array([block, 0, 0, purpose], np.uint64)
    )
    return generator.random_raw(skip + count)[skip:]
