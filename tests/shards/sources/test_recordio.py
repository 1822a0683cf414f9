"""RecordIO as other tools write it; the writer here follows the format's description, not our reader."""
# ruff: noqa: N802

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.images.faces import UnreadableFaceError
from shards.images.outcomes import Outcome
from shards.sources.sources import open_source

MAGIC = 0xCED7230A


class RecordWriter:
    """Writes `<name>.rec` and `<name>.idx` byte by byte."""

    def __init__(self, folder: Path, name: str = "train") -> None:
        folder.mkdir(exist_ok=True)
        self.rec, self.idx, self.data, self.lines = folder / f"{name}.rec", folder / f"{name}.idx", b"", ""

    def add(self, key: int, label: float | list[float], image: bytes = b"") -> None:
        if isinstance(label, list):
            payload = struct.pack("<IfQQ", len(label), 0.0, key, 0) + struct.pack(f"<{len(label)}f", *label) + image
        else:
            payload = struct.pack("<IfQQ", 0, label, key, 0) + image
        self.lines += f"{key}\t{len(self.data)}\n"
        parts, start = [], 0
        for at in range(0, len(payload) - 3, 4):  # the magic word at a multiple of four cuts the payload
            if payload[at : at + 4] == struct.pack("<I", MAGIC):
                parts.append(payload[start:at])
                start = at + 4
        parts.append(payload[start:])
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            continuation = 0 if len(parts) == 1 else 1 if number == 0 else 3 if last else 2
            self.data += struct.pack("<II", MAGIC, continuation << 29 | len(part)) + part
            self.data += bytes(-len(self.data) % 4)

    def close(self, *, index: bool = True) -> Path:
        self.rec.write_bytes(self.data)
        if index:
            self.idx.write_text(self.lines)
        return self.rec


IMAGES = {key: os.urandom(90 + key) for key in range(1, 6)}
PEOPLE = {1: 0, 2: 0, 3: 1, 4: 10, 5: 2}


def insightface(folder: Path, *, meta: bool = True) -> RecordWriter:
    """As insightface's tools do: record 0 holds where the images end, the last records which images each person has."""
    writer = RecordWriter(folder)
    if meta:
        writer.add(0, [6.0, 10.0])
    for key, image in IMAGES.items():
        writer.add(key, float(PEOPLE[key]), image)
    if meta:
        for number, (first, last) in enumerate([(1, 3), (3, 4), (5, 6), (4, 5)]):
            writer.add(6 + number, [float(first), float(last)])
    (folder / "property").write_text("4,112,112\n")
    return writer


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("index", [True, False])
def test_insightfaces_records_are_read_with_and_without_meta_record_and_index(tmp_path, meta, index):
    insightface(tmp_path / "set", meta=meta).close(index=index)
    source = open_source(tmp_path / "set")
    listing = source.listing()
    assert [face.identity for face in listing.faces] == ["0", "0", "1", "10", "2"]
    assert [source.read(face) for face in listing.faces] == [IMAGES[key] for key in (1, 2, 3, 4, 5)]
    assert listing.skipped == ()
    if index:
        assert listing.faces[3].path == "train.rec/0000000004"


def test_the_file_itself_may_be_given(tmp_path):
    assert len(open_source(insightface(tmp_path).close()).listing().faces) == 5


def test_labels_may_be_lists_whose_first_is_the_identity(tmp_path):
    writer = RecordWriter(tmp_path)
    writer.add(0, [7.0, 0.25, 0.5], b"image")
    writer.add(1, [8.0], b"other")
    source = open_source(writer.close())
    assert [(face.identity, source.read(face)) for face in source.listing().faces] == [("7", b"image"), ("8", b"other")]


@pytest.mark.parametrize("layout", ["magic", "magic twice", "magic at the end", "magic off the grid", "only magic"])
def test_images_that_contain_the_record_magic_are_read_whole(tmp_path, layout):
    word = struct.pack("<I", MAGIC)
    image = {
        "magic": b"a" * 8 + word + b"b" * 7,
        "magic twice": b"a" * 8 + word + word + b"b",
        "magic at the end": b"a" * 4 + word,
        "magic off the grid": b"a" * 5 + word + b"b" * 6,
        "only magic": word,
    }[layout]
    writer = RecordWriter(tmp_path)
    writer.add(0, 1.0, image)
    writer.add(1, 2.0, b"next")
    source = open_source(writer.close())
    assert [source.read(face) for face in source.listing().faces] == [image, b"next"]


def dcface(folder: Path, *, names: bool = True) -> Path:
    """DCFace's tool writes label 0 everywhere; the identity is a folder in list.txt."""
    writer = RecordWriter(folder, "file")
    for key, image in enumerate(IMAGES.values()):
        writer.add(key, 0.0, image)
    if names:
        lines = (f"{key}\t{'anna' if key < 3 else 'bob'}/{key}.jpg\n" for key in range(5))
        (folder / "list.txt").write_text("".join(lines))
    return writer.close()


def test_dcfaces_identities_come_from_its_list(tmp_path):
    source = open_source(dcface(tmp_path).parent)
    listing = source.listing()
    assert listing.images_per_identity == {"anna": 3, "bob": 2}
    assert [source.read(face) for face in listing.faces] == list(IMAGES.values())


def test_labels_that_are_all_zero_are_refused_without_a_list(tmp_path):
    with pytest.raises(DataError, match=r"all labels are 0; put the list\.txt"):
        open_source(dcface(tmp_path, names=False)).listing()


def test_records_the_list_does_not_name_have_no_identity(tmp_path):
    path = dcface(tmp_path)
    (tmp_path / "list.txt").write_text("0\tanna/0.jpg\n1\tanna/1.jpg\n")
    listing = open_source(path).listing()
    assert (len(listing.faces), listing.counts) == (2, {"no_identity": 3})


@pytest.mark.parametrize("line", ["x\tanna/1.jpg", "1", "1\tno-folder.jpg"])
def test_a_file_that_is_not_an_identity_list_is_refused(tmp_path, line):
    path = dcface(tmp_path)
    (tmp_path / "list.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=r"list\.txt: got"):
        open_source(path).listing()


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), float("inf"), 2.0**24])
def test_B32_labels_that_are_not_integers_are_counted(tmp_path, label):
    writer = insightface(tmp_path)
    writer.add(77, label, b"whose?")
    listing = open_source(writer.close()).listing()
    assert listing.counts == {"no_identity": 1}
    assert listing.skipped[0].path == "train.rec/0000000077"
    assert len(listing.faces) == 5


def test_records_missing_from_the_index_are_skipped_and_counted(tmp_path):
    writer = insightface(tmp_path)
    writer.lines = "".join(line for line in writer.lines.splitlines(keepends=True) if not line.startswith("3\t"))
    listing = open_source(writer.close()).listing()
    assert (len(listing.faces), listing.counts) == (4, {"ignored": 1})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("1\t4\n", "names byte 4, where no record starts"),
        ("1 0\n", "expected lines of <key> tab <byte>"),
        ("1\t0\n1\t100\n", "a record or a key twice"),
        ("1\t0\n2\t0\n", "a record or a key twice"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path, lines, words):
    writer = insightface(tmp_path)
    writer.lines = lines
    with pytest.raises(DataError, match=words):
        open_source(writer.close()).listing()


@pytest.mark.parametrize("cut", [2, 5, 30, 75, 200])
def test_B33_a_file_cut_anywhere_is_refused(tmp_path, cut):
    path = insightface(tmp_path, meta=False).close(index=False)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"train\.rec") as caught:
        open_source(path).listing()
    assert "\n" not in str(caught.value)


def test_B34_a_file_cut_between_records_is_detected_by_its_index(tmp_path):
    path = insightface(tmp_path, meta=False).close()
    last = int(path.with_suffix(".idx").read_text().splitlines()[-1].split("\t")[1])
    path.write_bytes(path.read_bytes()[:last])
    with pytest.raises(DataError, match="where no record starts"):
        open_source(path).listing()


@pytest.mark.parametrize("data", [b"text, not records", bytes(1000), struct.pack("<II", MAGIC, 4) + b"tiny"])
def test_a_file_that_is_not_image_recordio_is_refused(tmp_path, data):
    path = tmp_path / "train.rec"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train\.rec"):
        open_source(path).listing()


def test_an_empty_file_has_no_images(tmp_path):
    (tmp_path / "train.rec").touch()
    with pytest.raises(DataError, match="no faces found"):
        open_source(tmp_path).listing()


def test_several_files_in_one_folder_are_refused(tmp_path):
    insightface(tmp_path).close()
    RecordWriter(tmp_path, "other").close()
    with pytest.raises(DataError, match=r"holds 2 \.rec files; give the one to read"):
        open_source(tmp_path)


def test_B29_a_record_that_disappeared_counts_as_changed(tmp_path):
    path = insightface(tmp_path).close()
    face = open_source(path).listing().faces[1]
    path.write_bytes(path.read_bytes()[4:])
    with pytest.raises(UnreadableFaceError) as caught:
        open_source(path).read(face)
    assert caught.value.outcome == Outcome.CHANGED


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_file_is_read_or_refused_without_crashing(tmp_path, seed):
    draw = random.Random(seed)
    path = insightface(tmp_path).close(index=bool(seed % 2))
    data = bytearray(path.read_bytes())
    for _ in range(6):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(data)
    source = open_source(path)
    try:
        faces = source.listing().faces
    except DataError:
        return
    for face in faces:
        assert len(source.read(face)) == face.bytes
