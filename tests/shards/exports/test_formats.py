"""Exports are read back by readers that share no code with the writers."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from shards.errors import DataError
from shards.exports.formats import FORMATS
from shards.exports.recordio_writer import MAGIC_BYTES, RecordWriter, framed
from shards.tars.shard_set import ShardSet

from ..pictures import write_tar


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    """Two tars of nine images of three people whose order is not that of their names."""
    first = write_tar(tmp_path / "a.tar", [("p/0", "zoe"), ("p/1", "zoe"), ("q-0", "ann"), ("q-1", "ann")])
    second = write_tar(
        tmp_path / "b.tar", [("r-0", "mia"), ("r-1", "mia"), ("r-2", "mia"), ("q-2", "ann"), ("s", "zoe")]
    )
    return ShardSet([first, second])


def exported(shards: ShardSet, form: str, folder: Path) -> Path:
    @contextmanager
    def opener(name: str) -> Iterator[BinaryIO]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "xb") as file:
            yield file

    FORMATS[form](shards, opener=opener, name="a set")
    return folder


def jpegs_by_label(shards: ShardSet) -> list[tuple[int, bytes]]:
    """What every format must contain: the label by sorted name, and the bytes of the image."""
    names = sorted(set(shards.identities))
    pairs = [(names.index(identity), shards.jpeg(row)) for row, identity in enumerate(shards.identities)]
    return sorted(pairs, key=lambda pair: pair[0])


def parts_of(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    """Continuation flag, content and end of each part from `at` on, by the description of dmlc's RecordIO."""
    while at < len(data):
        magic, word = struct.unpack_from("<II", data, at)
        assert magic == 0xCED7230A
        length = word & (1 << 29) - 1
        yield word >> 29, data[at + 8 : at + 8 + length], at + 8 + (length + 3) // 4 * 4
        at += 8 + (length + 3) // 4 * 4


def record_at(data: bytes, at: int) -> bytes:
    """One record, reassembled from its parts."""
    whole = b""
    for flag, content, _ in parts_of(data, at):
        whole += content if flag in (0, 1) else struct.pack("<I", 0xCED7230A) + content
        if flag in (0, 3):
            return whole
    raise AssertionError


class InsightfaceReader:
    """Reads `train.rec` as insightface documents it: mxnet's image header, record 0 with the ranges."""

    def __init__(self, folder: Path) -> None:
        self.data = (folder / "train.rec").read_bytes()
        lines = (folder / "train.idx").read_text().splitlines()
        self.offsets = {int(key): int(offset) for key, offset in (line.split("\t") for line in lines)}
        self.first_identity, self.end = (int(value) for value in self.labels(0))

    def unpack(self, number: int) -> tuple[int, float, int, bytes]:
        record = record_at(self.data, self.offsets[number])
        flag, label, own, _ = struct.unpack_from("<IfQQ", record)
        return flag, label, own, record[24:]

    def labels(self, number: int) -> tuple[float, ...]:
        flag, _, own, content = self.unpack(number)
        assert (flag, own, len(content)) == (2, number, 8)
        return struct.unpack("<2f", content)

    def images(self) -> list[tuple[int, bytes]]:
        rows = [self.unpack(number) for number in range(1, self.first_identity)]
        assert all(flag == 0 for flag, *_ in rows)
        return [(int(label), content) for _, label, _, content in rows]


def test_recordio_is_read_as_insightface_documents_it(shards: ShardSet, tmp_path: Path):
    folder = exported(shards, "recordio", tmp_path / "rec")
    reader = InsightfaceReader(folder)
    images = reader.images()
    assert images == jpegs_by_label(shards)
    assert sorted({label for label, _ in images}) == [0, 1, 2]
    assert [reader.labels(number) for number in range(reader.first_identity, reader.end)] == [(1, 4), (4, 7), (7, 10)]
    assert reader.end == len(reader.offsets)
    assert (folder / "property").read_text() == "3,32,32\n"
    assert (folder / "classes.txt").read_text().split() == ["ann", "mia", "zoe"]
    ends = [end for _, _, end in parts_of(reader.data, 0)]
    assert ends[-1] == len(reader.data)
    assert sorted(reader.offsets.values()) == [0, *ends[:-1]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        MAGIC_BYTES,
        b"1234" + MAGIC_BYTES + b"5678",
        b"123" + MAGIC_BYTES,  # not at a multiple of four: no reader takes it for a record
        MAGIC_BYTES * 3,
        b"1234" + MAGIC_BYTES + MAGIC_BYTES + b"x",
    ],
)
def test_data_that_contains_the_record_magic_is_read_back_unchanged(data: bytes):
    written = b"".join(framed(data)) + b"".join(framed(b"next"))
    assert record_at(written, 0) == data
    aligned = [at for at in range(0, len(written), 4) if written[at : at + 4] == MAGIC_BYTES]
    assert len(aligned) == len(list(parts_of(written, 0)))


def test_labels_out_of_order_and_too_many_images_are_refused():
    writer = RecordWriter(io.BytesIO(), images=2, classes=2)
    with pytest.raises(DataError, match="got label 1 after -1"):
        writer.add(b"x", label=1)
    writer.add(b"x", label=0)
    with pytest.raises(DataError, match="1 images of 1 identities"):
        writer.close()
    with pytest.raises(DataError, match="export in parts"):
        RecordWriter(io.BytesIO(), images=2**24, classes=10)


def test_folders_hold_every_image_under_its_identity(shards: ShardSet, tmp_path: Path):
    folder = exported(shards, "folders", tmp_path / "folders")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    images = [(label, path.read_bytes()) for label, name in enumerate(names) for path in (folder / name).glob("*.jpg")]
    assert sorted(images) == sorted(jpegs_by_label(shards))
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert {line["file_name"] for line in lines} == {
        path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg")
    }
    assert all(names[line["label"]] == line["identity"] for line in lines)


def test_hugging_face_datasets_loads_the_layout(shards: ShardSet, tmp_path: Path):
    """With the library itself, in a separate process without network access."""
    folder = exported(shards, "huggingface", tmp_path / "hf")
    code = (
        "import sys, json, datasets\n"
        "rows = datasets.load_dataset(sys.argv[1], split='train', cache_dir=sys.argv[2])\n"
        "print(json.dumps([[row['cls'], row['json'], list(row['jpg'].size)] for row in rows]))\n"
        "raw = rows.cast_column('jpg', datasets.Image(decode=False))\n"
        "print(json.dumps([row['jpg']['bytes'].hex() for row in raw]))\n"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        env={**os.environ, **offline},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows, images = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    names = sorted(set(shards.identities))
    assert [(label, bytes.fromhex(image)) for (label, *_), image in zip(rows, images, strict=True)] == jpegs_by_label(
        shards
    )
    assert all(names[label] == record["identity"] and size == [32, 32] for label, record, size in rows)


@pytest.mark.parametrize("form", FORMATS)
def test_equal_sets_give_equal_exports_of_readable_images(shards: ShardSet, tmp_path: Path, form: str):
    first, second = (exported(shards, form, tmp_path / name) for name in ("first", "second"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert [(first / path).read_bytes() for path in files] == [(second / path).read_bytes() for path in files]
    for path in first.rglob("*.jpg"):
        assert np.asarray(Image.open(path)).shape == (32, 32, 3)
