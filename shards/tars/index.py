"""The index of a tar: offsets and identity of each sample, loaded at once instead of scanning the tar.

A file beside the tar, `real-00000.index.npz` for `real-00000.tar`: a zip of plain arrays that `numpy.load` reads
without pickle, protected by the zip's checksums. It is optional: without it the tar is scanned.
"""

from __future__ import annotations

import io
import json
import zipfile
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.errors import DataError, reason_of
from shards.small_files import read_whole
from shards.tars import ustar
from shards.tars.keys import KEY, KEY_LENGTH

FORMAT = "cemiface-index-1"

MAX_BYTES = 2**28  # of an index; a tar of the most samples that a reader takes has half of that


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """The samples of a tar.

    Attributes:
        keys: of its N samples, in order.
        spans: (N, 4) int64: offset and bytes of the image, offset and bytes of the record.
        classes: names of the identities in it, in order of appearance.
        labels: (N,) int32, positions in `classes`.
        tar_bytes: size of the tar.
    """

    keys: list[str]
    spans: np.ndarray
    classes: list[str]
    labels: np.ndarray
    tar_bytes: int


class IndexWriter:
    """Collects an index sample by sample; 36 bytes and the key of each."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._spans = array("q")
        self._classes: dict[str, int] = {}
        self._labels = array("i")

    def add(self, key: str, *, identity: object, jpg: tuple[int, int], json: tuple[int, int]) -> None:
        """Add one sample: its identity as in its record, and offset and bytes of its image and its record."""
        name = identity_name(identity) or ""
        self._keys.append(key)
        self._spans.extend((*jpg, *json))
        self._labels.append(self._classes.setdefault(name, len(self._classes)))

    def done(self, *, tar_bytes: int) -> TarIndex:
        """The index of the samples added."""
        return TarIndex(
            keys=self._keys,
            spans=np.array(self._spans, np.int64).reshape(-1, 4),
            classes=list(self._classes),
            labels=np.array(self._labels, np.int32),
            tar_bytes=tar_bytes,
        )

    def to_bytes(self, *, tar_bytes: int) -> bytes:
        """The index file; equal tars give equal bytes."""
        index, buffer = self.done(tar_bytes=tar_bytes), io.BytesIO()
        np.savez(
            buffer,
            format=_text(FORMAT),
            keys=_text("\n".join(index.keys)),
            spans=index.spans,
            classes=_text(json.dumps(index.classes, ensure_ascii=False)),
            labels=index.labels,
            tar_bytes=np.int64(tar_bytes),
        )
        return buffer.getvalue()


def identity_name(identity: object) -> str | None:
    """The identity in a record as text; None if it is neither text nor an integer, or empty."""
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        return None
    return str(identity)


def index_path(tar: Path) -> Path:
    """Where the index of a tar is, if it has one."""
    return tar.with_suffix(".index.npz")


def read_index(path: Path) -> TarIndex:
    """Read and check an index.

    Raises:
        DataError: it is damaged, of another format, inconsistent, or larger than `MAX_BYTES`.
        FileNotFoundError: there is no index.
    """
    data = read_whole(path, limit=MAX_BYTES)
    try:
        _check_members(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if not all(isinstance(file[name], np.ndarray) for name in file.files):  # a member may be anything
                raise ValueError("a member is no array")
            index = TarIndex(
                keys=_of_text(file["keys"]).split("\n"),
                spans=file["spans"],
                classes=json.loads(_of_text(file["classes"])),
                labels=file["labels"],
                tar_bytes=int(file["tar_bytes"]),
            )
            found = _of_text(file["format"])
    except Exception as error:  # numpy's and zipfile's parsers raise many kinds
        raise DataError(f"{path}: not a readable index ({reason_of(error)}); remove it and run again") from None
    if found != FORMAT or not _is_consistent(index):
        raise DataError(f"{path}: not an index of format {FORMAT}; remove it and run again")
    return index


def _check_members(data: bytes) -> None:
    """Raise ValueError if members are compressed, or claim more bytes than the file has: they could be of any size."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    if sum(member.file_size for member in members) > len(data):
        raise ValueError("its members are larger than the file")


def _is_consistent(index: TarIndex) -> bool:
    """Whether the spans are in order inside the tar, everything has one length and its type, and keys are keys."""
    count, spans = len(index.keys), index.spans
    if not isinstance(index.classes, list) or not all(isinstance(name, str) for name in index.classes):
        return False
    if not count or spans.shape != (count, 4) or spans.dtype != np.int64:
        return False
    if index.labels.shape != (count,) or index.labels.dtype != np.int32:
        return False
    if spans.min() < 0 or not spans.max() <= index.tar_bytes < 2**62:  # then no sum overflows
        return False
    if not all(map(KEY.fullmatch, index.keys)) or max(map(len, index.keys)) > KEY_LENGTH:
        return False
    ends = spans[:, 2] + spans[:, 3]
    in_order = (spans[:, 0] + spans[:, 1] <= spans[:, 2]).all() and (ends[:-1] <= spans[1:, 0]).all()
    sizes = spans[:, [1, 3]]
    inside = sizes.min() > 0 and sizes.max() <= ustar.MAX_BYTES and spans[0, 0] > 0 and ends[-1] <= index.tar_bytes
    return bool(in_order and inside and index.labels.min() >= 0 and index.labels.max() < len(index.classes))


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _of_text(data: np.ndarray) -> str:
    return data.tobytes().decode()
