"""Writes samples to a tar whose bytes depend only on the samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from shards import strict_json
from shards.errors import DataError
from shards.tars import ustar
from shards.tars.index import IndexWriter
from shards.tars.keys import KEY, KEY_LENGTH

RECORD = 20 * ustar.BLOCK  # tar files are padded to a multiple of this

PADDING = bytes(ustar.BLOCK)

WRITTEN_AT_ONCE = 2**20  # bytes, since sinks that hash and check have a cost per call


class Sink(Protocol):
    """The destination of a tar: a binary file without seeking."""

    def write(self, data: bytes, /) -> int: ...


class TarWriter:
    """Samples as `<key>.jpg` followed by `<key>.json` in a USTAR archive with fixed metadata.

    Not a context manager on purpose: after an exception the file must stay without its end marker, so that readers
    refuse it. The caller publishes the file after `close`, with its index beside it.
    """

    def __init__(self, file: Sink, *, private: bool = False) -> None:
        """Args: private: whether the samples are real faces; the header of every member has a mark then."""
        self._file, self._bytes, self._private = file, 0, private
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._keys: set[str] = set()
        self._index = IndexWriter()

    @property
    def samples(self) -> int:
        """Number of samples added."""
        return len(self._keys)

    def add(self, key: str, *, jpg: bytes, record: Mapping[str, Any]) -> None:
        """Append one sample.

        Raises:
            DataError: the key has other characters than a-z, 0-9, _, - and /, is too long or was added before;
                or the record is not strict JSON.
        """
        if not KEY.fullmatch(key) or len(key) > KEY_LENGTH:
            raise DataError(f"key {key!r}: allowed are up to {KEY_LENGTH} characters of a-z 0-9 _ - and /")
        if key in self._keys:
            raise DataError(f"key {key!r} was already added")
        text = strict_json.dumps(record)
        self._keys.add(key)
        jpg_at = self._append(f"{key}.jpg", jpg)
        json_at = self._append(f"{key}.json", text)
        self._index.add(key, identity=record.get("identity"), jpg=(jpg_at, len(jpg)), json=(json_at, len(text)))
        if self._pending_bytes >= WRITTEN_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write the end-of-archive marker. The caller closes the file.

        Raises:
            DataError: there are no samples; an empty tar looks like a finished one to other tools.
        """
        if not self._keys:
            raise DataError("a tar without samples is not written: no image was usable")
        marker = 2 * ustar.BLOCK
        padding = -(self._bytes + marker) % RECORD
        self._pending.append(bytes(marker + padding))
        self._bytes += marker + padding
        self._flush()

    def index(self) -> bytes:
        """The index of the tar, to be published beside it once it is closed; see `shards.tars.index`."""
        return self._index.to_bytes(tar_bytes=self._bytes)

    def _append(self, name: str, data: bytes) -> int:
        """Add a member; returns where its content begins."""
        size, at = len(data), self._bytes + ustar.BLOCK
        padding = -size % ustar.BLOCK
        self._pending += (ustar.header(name, size, private=self._private), data, PADDING[:padding])
        self._bytes = at + size + padding
        self._pending_bytes += size
        return at

    def _flush(self) -> None:
        self._file.write(b"".join(self._pending))
        self._pending.clear()
        self._pending_bytes = 0
