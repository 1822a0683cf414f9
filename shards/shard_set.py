"""A set of tars as one indexed sequence of labeled images."""

from __future__ import annotations

import bisect
import weakref
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import DataError
from shards.images import decode_rgb
from shards.labels import classes_of
from shards.tar_reader import OpenTar, Span


class ShardSet:
    """Random access to the images of several tars, in the order given.

    The headers and records of all tars are scanned and checked once. Per image the index holds 24 bytes of offsets, a
    label and the key: 100 MB for a million images, twice that while scanning. Reads are `pread`, so threads need no
    lock; one file descriptor stays open per tar.

    Attributes:
        keys: of each image.
        labels: (N,) int64, contiguous 0..C-1, the position of the image's identity in `classes`.
        classes: names of the identities, sorted.

    Raises:
        DataError: a tar is damaged, a key appears twice, or a record has no `identity` (text or integer).
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise DataError("a shard set needs at least one tar, got none")
        self.keys: list[str] = []
        self._tars: list[OpenTar] = []
        self._close = weakref.finalize(self, _close_all, self._tars)
        self._firsts: list[int] = []
        offsets, identities = array("q"), []
        for path in paths:
            tar = OpenTar(path)
            self._tars.append(tar)
            self._firsts.append(len(self.keys))
            for span in tar.scan():
                self.keys.append(span.key)
                offsets.extend((span.jpg_at, span.json_at, span.jpg_bytes << 32 | span.json_bytes))
                identities.append(_identity(tar, span))
        _refuse_duplicates(self.keys, paths)
        self._spans = np.frombuffer(offsets, np.int64).reshape(-1, 3)
        self.classes, self.labels = classes_of(identities)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def identities(self) -> list[str]:
        """Identity of each image."""
        return [self.classes[label] for label in self.labels]

    def jpeg(self, index: int) -> bytes:
        tar, span = self._find(index)
        return tar.jpg(span)

    def rgb(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8; raises DataError with the key if the image cannot be decoded."""
        try:
            return decode_rgb(self.jpeg(index))
        except ValueError as error:
            tar, span = self._find(index)
            raise DataError(f"{tar.path}: {span.key}: {error}") from None

    def record(self, index: int) -> dict[str, Any]:
        tar, span = self._find(index)
        return tar.record(span)

    def records(self) -> Iterator[dict[str, Any]]:
        """All records in order."""
        return (self.record(index) for index in range(len(self)))

    def close(self) -> None:
        """Close the files; done by itself when the set is collected."""
        self._close()

    def _find(self, index: int) -> tuple[OpenTar, Span]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        jpg_at, json_at, sizes = (int(value) for value in self._spans[index])
        span = Span(
            key=self.keys[index],
            jpg_at=jpg_at,
            jpg_bytes=sizes >> 32,
            json_at=json_at,
            json_bytes=sizes & 0xFFFFFFFF,
        )
        return self._tars[bisect.bisect_right(self._firsts, index) - 1], span


def _identity(tar: OpenTar, span: Span) -> str:
    identity = tar.record(span).get("identity")
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        raise DataError(f"{tar.path}: {span.key}: identity is {identity!r}, expected text or an integer")
    return str(identity)


def _refuse_duplicates(keys: list[str], paths: Sequence[Path]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise DataError(f"{paths[0].parent}: key {key} is in two tars; are two data sets mixed?")
        seen.add(key)


def _close_all(tars: list[OpenTar]) -> None:
    for tar in tars:
        tar.close()
