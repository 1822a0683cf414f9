"""A set of tars as one indexed sequence of labeled images."""

from __future__ import annotations

import bisect
import weakref
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import DataError, shown
from shards.images.jpeg import decode_rgb
from shards.tars.index import IndexWriter, TarIndex, index_path, read_index
from shards.tars.reader import OpenTar, Span


class ShardSet:
    """Random access to the images of several tars, in the order given.

    If a tar has an index beside it, the index is loaded; otherwise all headers and records are scanned. Both are
    checked. A tar that is given open is always scanned: its bytes may be certified, those of its index are not.

    Per image there are 36 bytes of offsets and label, and the key: 110 MB for a million images. Reads are `pread`, so
    threads need no lock; one file descriptor stays open per tar.

    Attributes:
        keys: of each image.
        labels: (N,) int64, contiguous 0..C-1, the position of the image's identity in `classes`.
        classes: names of the identities, sorted.

    Raises:
        DataError: a tar or an index is damaged, they do not belong together, a key appears twice, or a record has
            no `identity` (text or integer).
    """

    def __init__(self, paths: Sequence[Path | OpenTar]) -> None:
        if not paths:
            raise DataError("a shard set needs at least one tar, got none")
        self.keys: list[str] = []
        self._tars: list[OpenTar] = []
        self._close = weakref.finalize(self, _close_all, self._tars)
        self._firsts: list[int] = []
        indexes = []
        for path in paths:
            tar = path if isinstance(path, OpenTar) else OpenTar(path)
            self._tars.append(tar)
            self._firsts.append(len(self.keys))
            index = _index_of(tar, scan=tar is path)
            self.keys.extend(index.keys)
            indexes.append(index)
        _refuse_duplicates(self.keys, self._tars)
        self._spans = np.concatenate([index.spans for index in indexes])
        self._jpg_at, self._jpg_bytes = (array("q", self._spans[:, column].tobytes()) for column in (0, 1))
        self.classes, self.labels = _joined_labels(indexes)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def identities(self) -> list[str]:
        """Identity of each image."""
        return [self.classes[label] for label in self.labels]

    def jpeg(self, index: int) -> bytes:
        """The encoded image."""
        if not 0 <= index < len(self.keys):
            raise IndexError(f"image {index} of {len(self)}")
        return self.tar_of(index).read(self._jpg_at[index], self._jpg_bytes[index])

    def rgb(self, index: int, *, out: np.ndarray | None = None) -> np.ndarray:
        """(H, W, 3) uint8, in `out` if it is given and fits exactly.

        Raises:
            DataError: with the key, if the image cannot be decoded, or `out` is too small.
        """
        jpeg = self.jpeg(index)
        try:
            return decode_rgb(jpeg, out=out)
        except ValueError as error:
            raise DataError(f"{self.tar_of(index).path}: {self.keys[index]}: {error}") from None

    def record(self, index: int) -> dict[str, Any]:
        """The JSON record."""
        if not 0 <= index < len(self.keys):
            raise IndexError(f"image {index} of {len(self)}")
        jpg_at, jpg_bytes, json_at, json_bytes = (int(value) for value in self._spans[index])
        span = Span(key=self.keys[index], jpg_at=jpg_at, jpg_bytes=jpg_bytes, json_at=json_at, json_bytes=json_bytes)
        return self.tar_of(index).record(span)

    def row_of(self, name: str) -> int:
        """The row of an image's key; or, of an identity's name, the row of its first image."""
        if name in self.classes:
            return int(np.flatnonzero(self.labels == self.classes.index(name))[0])
        return self.keys.index(name)

    def records(self) -> Iterator[dict[str, Any]]:
        """All records in order."""
        return (self.record(index) for index in range(len(self)))

    def close(self) -> None:
        """Close the files; done automatically when the set is garbage-collected."""
        self._close()

    def tar_of(self, index: int) -> OpenTar:
        """The tar that an image lies in."""
        return self._tars[bisect.bisect_right(self._firsts, index) - 1]


def _index_of(tar: OpenTar, *, scan: bool) -> TarIndex:
    """The index beside the tar, or one built by scanning the tar."""
    try:
        index = _scanned(tar) if scan else read_index(index_path(tar.path))
        _check_fit(tar, index)
    except FileNotFoundError:
        index = _scanned(tar)
    if "" in index.classes:
        sample = int(np.argmax(index.labels == index.classes.index("")))
        span = _span(index, sample)
        identity = tar.record(span).get("identity")
        raise DataError(f"{tar.path}: {span.key}: identity is {shown(repr(identity))}, expected text or an integer")
    return index


def _check_fit(tar: OpenTar, index: TarIndex) -> None:
    if index.tar_bytes != tar.bytes:
        raise DataError(f"{tar.path}: {tar.bytes} bytes, its index says {index.tar_bytes}; one of them is damaged")
    for sample in (0, -1):
        tar.check_sample(_span(index, sample))


def _scanned(tar: OpenTar) -> TarIndex:
    index = IndexWriter()
    for span in tar.scan():
        index.add(
            span.key,
            identity=tar.record(span).get("identity"),
            jpg=(span.jpg_at, span.jpg_bytes),
            json=(span.json_at, span.json_bytes),
        )
    return index.done(tar_bytes=tar.bytes)


def _span(index: TarIndex, sample: int) -> Span:
    jpg_at, jpg_bytes, json_at, json_bytes = (int(value) for value in index.spans[sample])
    return Span(key=index.keys[sample], jpg_at=jpg_at, jpg_bytes=jpg_bytes, json_at=json_at, json_bytes=json_bytes)


def _joined_labels(indexes: Sequence[TarIndex]) -> tuple[list[str], np.ndarray]:
    """Sorted names of all identities, and the (N,) int64 position of each image's among them."""
    classes = sorted({name for index in indexes for name in index.classes})
    positions = {name: label for label, name in enumerate(classes)}
    parts = [np.array([positions[name] for name in index.classes], np.int64)[index.labels] for index in indexes]
    return classes, np.concatenate(parts)


def _refuse_duplicates(keys: list[str], tars: Sequence[OpenTar]) -> None:
    if len(set(keys)) == len(keys):
        return
    seen: set[str] = set()
    key = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    raise DataError(f"{tars[0].path.parent}: key {key} is in two tars; are two data sets mixed?")


def _close_all(tars: list[OpenTar]) -> None:
    for tar in tars:
        tar.close()
