"""Exports a set in the formats of other training code: insightface RecordIO, image folders, Hugging Face `datasets`.

Images keep their bytes. Labels are the positions of the identities' names in sorted order, 0 to C - 1, in every format.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, cast

import numpy as np

from shards import strict_json
from shards.errors import DataError
from shards.exports.recordio_writer import RecordWriter
from shards.exports.safe_names import file_names, folder_names, line_of
from shards.images.jpeg import decode_rgb, size_of
from shards.tars.shard_set import ShardSet
from shards.tars.writer import Sink

Opener = Callable[[str], AbstractContextManager[Sink]]  # of a new file in the export, by its relative name

RECORDS = "records.jsonl"

SUMS = "SHA256SUMS"  # of an export; check with `sha256sum -c SHA256SUMS`

MAX_PIXELS = 10_000_000  # of an image; those of faces have some ten thousand

TAR_IMAGES = 10_000  # per tar of the Hugging Face layout

CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.tar
task_categories:
- image-classification
size_categories:
- {magnitude}
---

# {name}

{images:,} images of {classes:,} identities. `load_dataset("this/folder")` gives `jpg` (the image), `cls` (the label,
0 to {last}) and `json` (the record of the image, with its identity's name).
"""

MAGNITUDES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def to_recordio(shards: ShardSet, *, opener: Opener, name: str) -> None:
    """`train.rec` and `train.idx`, and `property` with number of classes, height and width."""
    with opener("train.rec") as rec:
        writer = RecordWriter(rec, images=len(shards), classes=len(shards.classes))
        for row in rows_by_label(shards):
            writer.add(_checked_jpeg(shards, row), label=int(shards.labels[row]))
        index = writer.close()
    with opener("train.idx") as idx:
        idx.write(index)
    height, width, _ = shards.rgb(0).shape
    with opener("property") as file:
        file.write(f"{len(shards.classes)},{height},{width}\n".encode())
    with opener("classes.txt") as file:  # insightface does not read it; label k is line k
        file.write("".join(f"{line_of(identity)}\n" for identity in shards.classes).encode())


def to_folders(shards: ShardSet, *, opener: Opener, name: str) -> None:
    """`<identity>/<key>.jpg`, as `ImageFolder` readers take it, and all records in `records.jsonl`.

    Names that cannot be those of folders are changed, see `folder_names`; the records have them unchanged.
    """
    folders = folder_names(shards.classes, taken=(RECORDS, SUMS))
    files = file_names(shards.keys)
    with opener(RECORDS) as records:
        for row in rows_by_label(shards):
            path = f"{folders[shards.labels[row]]}/{files[row]}.jpg"
            jpeg = _checked_jpeg(shards, row)
            with opener(path) as image:
                image.write(jpeg)
            line = {**shards.record(row), "file_name": path, "label": int(shards.labels[row])}
            records.write(strict_json.dumps(line) + b"\n")


def to_huggingface(shards: ShardSet, *, opener: Opener, name: str) -> None:
    """Tars with image, label and record of each sample, and a README with their paths for `datasets`."""
    order = list(rows_by_label(shards))
    for number, first in enumerate(range(0, len(order), TAR_IMAGES)):
        with opener(f"data/train-{number:05d}.tar") as file:
            tar = tarfile.TarFile(fileobj=cast("BinaryIO", file), mode="w", format=tarfile.USTAR_FORMAT)
            for row in order[first : first + TAR_IMAGES]:
                _member(tar, f"{shards.keys[row]}.jpg", _checked_jpeg(shards, row))
                _member(tar, f"{shards.keys[row]}.cls", str(int(shards.labels[row])).encode())
                _member(tar, f"{shards.keys[row]}.json", strict_json.dumps(shards.record(row)))
            tar.close()
    magnitude = next((text for limit, text in MAGNITUDES if len(shards) < limit), "n>10M")
    card = CARD.format(
        name=name,
        images=len(shards),
        classes=len(shards.classes),
        last=len(shards.classes) - 1,
        magnitude=magnitude,
    )
    with opener("README.md") as readme:
        readme.write(card.encode())


FORMATS = {"recordio": to_recordio, "folders": to_folders, "huggingface": to_huggingface}


def rows_by_label(shards: ShardSet) -> Iterator[int]:
    """All rows, identity by identity, in the order of the tars within each."""
    return (int(row) for row in np.argsort(shards.labels, kind="stable"))


def _checked_jpeg(shards: ShardSet, row: int) -> bytes:
    """The encoded image, which was decoded as a whole.

    Raises:
        DataError: it cannot be decoded, or has more than `MAX_PIXELS`; names tar and key.
    """
    jpeg = shards.jpeg(row)
    try:
        height, width = size_of(jpeg)
        if height * width > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels, allowed are {MAX_PIXELS}")
        decode_rgb(jpeg)
    except ValueError as error:
        where = f"{shards.tar_of(row).path}: {shards.keys[row]}"
        raise DataError(f"{where}: {error}; nothing is exported, get the set again") from None
    return jpeg


def _member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)  # mtime, uid and gid 0
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))
