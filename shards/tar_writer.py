"""Write samples to a tar whose bytes depend on nothing but the samples."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol, cast

from shards import strict_json
from shards.errors import DataError

# No dots: WebDataset ends the key at the first one. No capitals: some file systems cannot tell them apart.
KEY = re.compile(r"[0-9a-z_-]+(/[0-9a-z_-]+)*")
KEY_LENGTH = 90  # a USTAR name field has 100 bytes


class Sink(Protocol):
    """What a tar is written into: the part of a binary file that needs no seeking."""

    def write(self, data: bytes, /) -> int: ...

    def tell(self) -> int: ...


class TarWriter:
    """Samples as `<key>.jpg` followed by `<key>.json` in a USTAR archive with fixed metadata.

    Deliberately no context manager: an exception on the way must leave a file without end marker, which no reader
    of ours accepts. Whoever opened the file publishes it after `close`.
    """

    def __init__(self, file: Sink) -> None:
        # The cast because typeshed asks for a whole file; writing uses write and tell only.
        self._tar = tarfile.TarFile(fileobj=cast(BinaryIO, file), mode="w", format=tarfile.USTAR_FORMAT)
        self._keys: set[str] = set()

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
        self._member(f"{key}.jpg", jpg)
        self._member(f"{key}.json", text)

    def close(self) -> None:
        """Write the end-of-archive marker. The file stays open: it belongs to the caller.

        Raises:
            DataError: there are no samples; an empty tar looks like a finished one to other tools.
        """
        if not self._keys:
            raise DataError("a tar without samples is not written: no image was usable")
        self._tar.close()

    def _member(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)  # mtime, uid and gid 0, names empty, mode 0644
        header.size = len(data)
        self._tar.addfile(header, io.BytesIO(data))
