"""Write samples to a tar whose bytes depend on nothing but the samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from shards import strict_json, ustar
from shards.errors import DataError
from shards.tar_index import IndexWriter

# No dots: WebDataset ends the key at the first one. No capitals: some file systems cannot tell them apart.
KEY = re.compile(r"[0-9a-z_-]+(/[0-9a-z_-]+)*")
KEY_LENGTH = 90  # a USTAR name field has 100 bytes
RECORD = 20 * ustar.BLOCK  # tar files end at a multiple of this, since the days of tapes
ZEROS = bytes(RECORD)


class Sink(Protocol):
    """What a tar is written into: the part of a binary file that needs no seeking."""

    def write(self, data: bytes, /) -> int: ...


class TarWriter:
    """Samples as `<key>.jpg` followed by `<key>.json` in a USTAR archive with fixed metadata.

    Deliberately no context manager: an exception on the way must leave a file without end marker, which no reader
    of ours accepts. Whoever opened the file publishes it after `close`, and its index beside it.
    """

    def __init__(self, file: Sink) -> None:
        self._file, self._bytes = file, 0
        self._keys: set[str] = set()
        self._index = IndexWriter()

    @property
    def samples(self) -> int:
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
        jpg_at = self._bytes + ustar.BLOCK
        image, words = _member(f"{key}.jpg", jpg), _member(f"{key}.json", text)
        self._index.add(
            key,
            identity=record.get("identity"),
            jpg=(jpg_at, len(jpg)),
            json=(jpg_at + len(image), len(text)),
        )
        self._write(image + words)

    def close(self) -> None:
        """Write the end-of-archive marker. The file stays open: it belongs to the caller.

        Raises:
            DataError: there are no samples; an empty tar looks like a finished one to other tools.
        """
        if not self._keys:
            raise DataError("a tar without samples is not written: no image was usable")
        self._write(ZEROS[: 2 * ustar.BLOCK])
        self._write(ZEROS[: -self._bytes % RECORD])

    def index(self) -> bytes:
        """The index of the tar, to be published beside it once it is closed; see `shards.tar_index`."""
        return self._index.to_bytes(tar_bytes=self._bytes)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._bytes += len(data)


def _member(name: str, data: bytes) -> bytes:
    return b"".join((ustar.header(name, len(data)), data, ZEROS[: -len(data) % ustar.BLOCK]))
