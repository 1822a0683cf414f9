"""Reads the samples of a tar strictly: a damaged or cut tar raises an error instead of giving fewer samples.

Common readers stop silently at a cut header or member boundary, and merge or split samples by name. This one accepts
exactly what `TarWriter` writes: USTAR, regular members, `<key>.jpg` followed by `<key>.json`, end marker.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards import strict_json
from shards.errors import DataError
from shards.tars import ustar
from shards.tars.keys import KEY

LIMITS = {"jpg": 64 * 2**20, "json": 2**20}  # bytes of a member

MAX_SAMPLES = 1_000_000  # per tar

MAX_PADDING = 2**20  # zeros after the end marker; tar writers pad to 10 KiB

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and its record."""

    key: str
    jpg: bytes
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Offsets and sizes of one sample in its tar, in bytes."""

    key: str
    jpg_at: int
    jpg_bytes: int
    json_at: int
    json_bytes: int


def read_tar(path: Path, *, samples: int | None = None) -> Iterator[Sample]:
    """Yield the samples of one tar in order, one in memory at a time.

    Args:
        path: an uncompressed tar.
        samples: the count promised by the manifest.

    Raises:
        DataError: naming file and key. As in any stream, samples before the fault were already yielded.
    """
    with OpenTar(path) as tar:
        yield from tar.samples(count=samples)


class OpenTar:
    """An open tar: a checked scan of its headers, and reads at offsets (from any thread).

    Attributes:
        marked_private: whether a header that was scanned has the mark of tars with real faces.
    """

    def __init__(self, path: Path, *, descriptor: int | None = None) -> None:
        """Args: descriptor: of the file, where it was opened already, for instance to hash it; closed with the tar."""
        self.path, self.marked_private = path, False
        if path.suffix not in (".tar", ".part"):  # .part: written but not yet published
            raise DataError(f"{path}: expected a name ending in .tar")
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if descriptor is None else descriptor
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
        self.bytes = os.fstat(self._fd).st_size
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            raise DataError(f"{path}: not a regular file")

    def __enter__(self) -> OpenTar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; later reads fail."""
        descriptor, self._fd = self._fd, -1  # a late read must fail, not hit a file opened since
        os.close(descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`.

        Raises:
            DataError: the tar does not reach that far.
        """
        if offset < 0 or not 0 <= size <= self.bytes:
            raise DataError(f"{self.path}: {size} bytes at byte {offset} are not in it; it or its index is damaged")
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise DataError(f"{self.path}: ends after {offset + len(data)} bytes, inside a member; it is cut short")
        return data

    def jpg(self, span: Span) -> bytes:
        """The encoded image of a sample."""
        return self.read(span.jpg_at, span.jpg_bytes)

    def record(self, span: Span) -> dict[str, Any]:
        """The JSON record of a sample."""
        return strict_json.loads(self.read(span.json_at, span.json_bytes), where=f"{self.path}: {span.key}")

    def samples(self, *, count: int | None = None) -> Iterator[Sample]:
        """Yield the samples in order; see `read_tar`."""
        for span in self.scan(samples=count):
            yield Sample(key=span.key, jpg=self.jpg(span), record=self.record(span))

    def check_sample(self, span: Span) -> None:
        """Raise DataError if the tar does not have this sample at these offsets."""
        for kind, at, size in (("jpg", span.jpg_at, span.jpg_bytes), ("json", span.json_at, span.json_bytes)):
            header = self.read(at - ustar.BLOCK, ustar.BLOCK)
            if header not in (ustar.header(f"{span.key}.{kind}", size, private=mark) for mark in (False, True)):
                raise DataError(f"{self.path}: {span.key}.{kind} is not where the index has it; remove the index")

    def scan(self, *, samples: int | None = None) -> Iterator[Span]:
        """Yield the span of each sample, checking every header and, at the end, the end marker and the count."""
        self._check_start()
        seen: set[str] = set()
        window = _Window(self)
        offset = 0
        while (image := self._member(window, offset)) is not None:
            record = self._member(window, image.end)
            key = self._key(image, record)
            if key in seen:
                raise DataError(f"{self.path}: {key}: duplicate sample")
            if len(seen) == MAX_SAMPLES:
                raise DataError(f"{self.path}: more than {MAX_SAMPLES} samples")
            seen.add(key)
            assert record is not None
            yield Span(key=key, jpg_at=image.at, jpg_bytes=image.bytes, json_at=record.at, json_bytes=record.bytes)
            offset = record.end
        self._check_end(offset)
        if not seen:
            raise DataError(f"{self.path}: an empty tar")
        if samples is not None and len(seen) != samples:
            raise DataError(f"{self.path}: {len(seen)} samples, the manifest promises {samples}")

    def _check_start(self) -> None:
        if self.bytes == 0:
            raise DataError(f"{self.path}: zero bytes")
        start = self.read(0, min(8, self.bytes))
        for magic, name in COMPRESSED.items():
            if start.startswith(magic):
                raise DataError(f"{self.path}: compressed with {name}; decompress it first")

    def _member(self, window: _Window, offset: int) -> _Member | None:
        """The member whose header is at `offset`, or None at the end marker."""
        try:
            header = ustar.parse(window.read(offset, ustar.BLOCK))
        except ValueError as error:
            raise DataError(f"{self.path}: no tar header at byte {offset} ({error}); it is cut or damaged") from None
        if header is None:
            return None
        self.marked_private |= header.private
        where = f"{self.path}: member {header.name!r}"
        key, dot, kind = header.name.rpartition(".")
        if not header.regular:
            raise DataError(f"{where}: not a regular file; links, devices and extended headers are refused")
        if not dot or kind not in LIMITS:
            raise DataError(f"{where}: allowed are .jpg and .json")
        if not KEY.fullmatch(key):
            raise DataError(f"{where}: unsafe name; keys have a-z 0-9 _ - and / only")
        if not 0 < header.bytes <= LIMITS[kind]:
            raise DataError(f"{where}: {header.bytes} bytes, allowed are 1 to {LIMITS[kind]}")
        at = offset + ustar.BLOCK
        if at + header.padded > self.bytes:
            raise DataError(f"{where}: the file ends inside it; it is cut short")
        return _Member(key=key, kind=kind, at=at, bytes=header.bytes, end=at + header.padded)

    def _key(self, image: _Member, record: _Member | None) -> str:
        """The common key of two adjacent members."""
        if image.kind == "jpg" and record is not None and record.kind == "json" and image.key == record.key:
            return image.key
        follows = "the end" if record is None else f"{record.key}.{record.kind}"
        raise DataError(
            f"{self.path}: {image.key}: {image.key}.{image.kind} is followed by {follows}; "
            "expected <key>.jpg and <key>.json side by side"
        )

    def _check_end(self, offset: int) -> None:
        rest = self.bytes - offset
        if rest < 2 * ustar.BLOCK:
            raise DataError(f"{self.path}: the end marker is missing; it is cut short")
        if rest > MAX_PADDING or self.read(offset, rest).count(0) != rest:
            raise DataError(f"{self.path}: data after the end marker at byte {offset}; two tars in one file?")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    key: str
    kind: str
    at: int
    bytes: int
    end: int  # offset of the next header


class _Window:
    """The last few KiB read: the header of a record, the record and the next header come in one system call."""

    SIZE = 8 * ustar.BLOCK

    def __init__(self, tar: OpenTar) -> None:
        self._tar, self._at, self._data = tar, 0, b""

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset`; fewer at the end of the file."""
        if not self._at <= offset <= offset + size <= self._at + len(self._data):
            self._at, self._data = offset, self._tar.read(offset, max(0, min(self.SIZE, self._tar.bytes - offset)))
        return self._data[offset - self._at :][:size]
