"""Tars are written with reproducible bytes and read completely or refused."""
# ruff: noqa: N802

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tarfile
from pathlib import Path

import pytest
import webdataset

from shards import strict_json
from shards.errors import DataError
from shards.tars.reader import Sample, read_tar
from shards.tars.writer import TarWriter

from ..pictures import jpeg, write_tar

SAMPLES = [("00000000", "anna"), ("00000001", "anna"), ("part_2/00-a", "bob")]


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "real-00000.tar", SAMPLES)


def members(path: Path, *, entries: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE) -> Path:
    """A tar with any members, made by the standard library."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in entries:
            header = tarfile.TarInfo(name)
            header.size, header.type = len(data), kind
            header.linkname = "target" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(header, io.BytesIO(data))
    return path


def assert_refused(path: Path, words: str, *, samples: int | None = None) -> None:
    with pytest.raises(DataError, match=words) as caught:
        list(read_tar(path, samples=samples))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_are_read_back_as_written(tar):
    samples = list(read_tar(tar, samples=3))
    assert [(sample.key, sample.record["identity"]) for sample in samples] == SAMPLES
    assert [sample.jpg for sample in samples] == [jpeg(index, size=32) for index in range(3)]


def test_the_same_samples_give_the_same_bytes(tmp_path, tar, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1e9)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert write_tar(tmp_path / "other.tar", SAMPLES).read_bytes() == tar.read_bytes()


def test_a_tar_is_written_without_seeking_or_reading(tar):
    """So that the bytes can be hashed on their way to the disk."""

    class Pipe:
        data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

        def tell(self) -> int:
            return len(self.data)

    pipe = Pipe()
    writer = TarWriter(pipe)
    for sample in read_tar(tar):
        writer.add(sample.key, jpg=sample.jpg, record=sample.record)
    writer.close()
    assert pipe.data == tar.read_bytes()


def test_records_do_not_depend_on_the_order_of_their_fields(tmp_path):
    files = []
    for record in ({"a": 1, "identity": "\u00e9", "m": 0.1}, {"m": 0.1, "identity": "\u00e9", "a": 1}):
        buffer = io.BytesIO()
        writer = TarWriter(buffer)
        writer.add("k", jpg=b"x", record=record)
        writer.close()
        files.append(buffer.getvalue())
    assert files[0] == files[1]
    assert '{"a":1,"identity":"\u00e9","m":0.1}'.encode() in files[0]


def test_the_bytes_are_those_of_the_standard_library(tmp_path, tar):
    entries = [
        (f"{sample.key}.{kind}", data)
        for sample in read_tar(tar)
        for kind, data in (("jpg", sample.jpg), ("json", strict_json.dumps(sample.record)))
    ]
    assert members(tmp_path / "theirs.tar", entries=entries).read_bytes() == tar.read_bytes()


def test_member_headers_hold_no_data_of_the_machine(tar):
    with tarfile.open(tar) as archive:
        for header in archive:
            assert (header.mtime, header.uid, header.gid, header.uname, header.gname) == (0, 0, 0, "", "")
            assert header.mode == 0o644


def test_webdataset_reads_the_same_samples(tar):
    dataset = webdataset.WebDataset(str(tar), shardshuffle=False)
    theirs = [Sample(key=s["__key__"], jpg=s["jpg"], record=json.loads(s["json"])) for s in dataset]
    assert theirs == list(read_tar(tar))


@pytest.mark.parametrize(
    "key", ["", "a.b", "A", "../a", "/a", "a/", "a//b", "a b", "a\nb", "a\n", "\u00e9", "__x__/../a", "x" * 91]
)
def test_B22_keys_that_readers_would_mangle_are_refused(key):
    with pytest.raises(DataError, match=r"key .*allowed are"):
        TarWriter(io.BytesIO()).add(key, jpg=b"x", record={})


def test_the_writer_refuses_a_key_twice():
    writer = TarWriter(io.BytesIO())
    writer.add("a", jpg=b"x", record={})
    with pytest.raises(DataError, match="already added"):
        writer.add("a", jpg=b"x", record={})
    assert writer.samples == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udc80"])
def test_the_writer_refuses_what_is_not_strict_json_and_adds_nothing(value):
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    with pytest.raises(DataError, match="strict JSON"):
        writer.add("a", jpg=b"x", record={"m": value})
    assert (writer.samples, buffer.getvalue()) == (0, b"")


def test_B35_the_writer_refuses_to_finish_without_samples():
    with pytest.raises(DataError, match="without samples"):
        TarWriter(io.BytesIO()).close()


def test_an_unfinished_tar_is_not_accepted(tmp_path):
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        TarWriter(file).add("a", jpg=bytes(2**21), record={})
    assert path.stat().st_size > 2**21
    assert_refused(path, "cut or damaged")


def test_B33_B34_a_tar_cut_anywhere_is_refused_unless_only_padding_is_missing(tmp_path, tar):
    whole, data = list(read_tar(tar)), tar.read_bytes()
    cut = tmp_path / "cut.tar"
    needed = len(data.rstrip(b"\0"))
    for size in {*range(0, len(data), 256), needed, needed + 511, needed + 1023}:
        cut.write_bytes(data[:size])
        try:
            samples = list(read_tar(cut))
        except DataError:
            continue
        assert size >= needed + 1024
        assert samples == whole


def test_B34_a_tar_with_fewer_samples_than_the_manifest_promises_is_refused(tar):
    assert_refused(tar, "3 samples, the manifest promises 10", samples=10)


def test_a_change_of_any_header_byte_is_detected(tmp_path, tar):
    damaged = tmp_path / "damaged.tar"
    for at in range(512):
        data = bytearray(tar.read_bytes())
        data[at] ^= 0xFF
        damaged.write_bytes(data)
        assert_refused(damaged, "no tar header at byte 0")


def test_B35_zero_bytes_and_empty_tars_are_refused(tmp_path):
    empty = tmp_path / "empty.tar"
    empty.write_bytes(b"")
    assert_refused(empty, "zero bytes")
    empty.write_bytes(bytes(10_240))
    assert_refused(empty, "an empty tar")


@pytest.mark.parametrize(("compress", "name"), [(gzip.compress, "gzip"), (lzma.compress, "xz")])
def test_B36_compressed_tars_are_refused(tmp_path, tar, compress, name):
    path = tmp_path / "compressed.tar"
    path.write_bytes(compress(tar.read_bytes()))
    assert_refused(path, f"compressed with {name}")


def test_B36_other_names_than_tar_are_refused(tar):
    assert_refused(tar.rename(tar.with_suffix(".tar.gz")), r"ending in \.tar")


@pytest.mark.parametrize(
    "name", ["/etc/passwd.jpg", "../a.jpg", "a/../b.jpg", "./a.jpg", "A.jpg", "a.b.jpg", "a\n.jpg"]
)
def test_B37_unsafe_names_are_refused(tmp_path, name):
    assert_refused(members(tmp_path / "x.tar", entries=[(name, b"x")]), "unsafe name")


NO_FILES = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE),
)


@pytest.mark.parametrize("kind", NO_FILES)
def test_B37_members_that_are_no_files_are_refused(tmp_path, kind):
    assert_refused(members(tmp_path / "x.tar", entries=[("a.jpg", b"")], kind=kind), "not a regular file")


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_B37_extended_headers_that_override_name_or_size_are_refused(tmp_path, format_):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=format_, pax_headers={"size": "1"}) as archive:
        archive.addfile(tarfile.TarInfo("x" * 200 + ".jpg"), io.BytesIO())
    assert_refused(path, "not a regular file|not plain USTAR")


def test_B38_members_of_gigabytes_are_refused_from_their_header(tmp_path):
    header = tarfile.TarInfo("a.jpg")
    header.size = 8 * 2**30 - 1
    path = tmp_path / "x.tar"
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    assert_refused(path, "bytes, allowed are")


def test_B38_too_many_samples_are_refused(tar, monkeypatch):
    monkeypatch.setattr("shards.tars.reader.MAX_SAMPLES", 2)
    assert_refused(tar, "more than 2 samples")


RECORD = ("a.json", b"{}")
IMAGE = ("a.jpg", b"x")
OTHER = ("b.jpg", b"x")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([IMAGE, RECORD, IMAGE, RECORD], "a: duplicate sample"),
        ([IMAGE], r"a\.jpg is followed by the end"),
        ([RECORD], r"a\.json is followed by the end"),
        ([RECORD, IMAGE], r"a\.json is followed by a\.jpg"),
        ([IMAGE, OTHER, RECORD], r"a\.jpg is followed by b\.jpg"),
        ([IMAGE, RECORD, OTHER], r"b\.jpg is followed by the end"),
        ([IMAGE, ("b.json", b"{}")], r"a\.jpg is followed by b\.json"),
        ([("a.jpg", b"")], "0 bytes, allowed"),
    ],
)
def test_B39_half_duplicate_and_scattered_samples_are_refused(tmp_path, entries, words):
    assert_refused(members(tmp_path / "x.tar", entries=entries), words)


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.pyd", "a.pth", "a.npy", "a.png", "a", "a.jpg.pkl"])
def test_B40_other_extensions_are_refused(tmp_path, name):
    assert_refused(members(tmp_path / "x.tar", entries=[(name, b"cos\nsystem\n.")]), "allowed are .jpg and .json")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"{", "Expecting"),
        (b"[]", "got a JSON list"),
        (b"1", "got a JSON int"),
        (b'{"m": NaN}', "NaN"),
        (b'{"m": -Infinity}', "-Infinity"),
        (b'{"m": 1e999}', "overflows"),
        (b'{"n": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' appears twice"),
        (b'{"a": "\xff"}', "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": ' * 90_000, "recursion"),
    ],
)
def test_B42_invalid_json_is_refused_with_its_key(tmp_path, record, words):
    path = members(tmp_path / "x.tar", entries=[IMAGE, ("a.json", record)])
    assert_refused(path, f"a: .*{words}")


def test_data_after_the_end_marker_is_refused(tmp_path, tar):
    both = tmp_path / "both.tar"
    both.write_bytes(tar.read_bytes() * 2)
    assert_refused(both, "data after the end marker")


def test_a_tar_that_is_not_a_regular_file_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "fifo.tar")
    assert_refused(tmp_path / "fifo.tar", "not a regular file")
    assert_refused(tmp_path / "missing.tar", "No such file")


def test_no_descriptor_is_left_open_after_errors(tmp_path, tar):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert_refused(members(tmp_path / "x.tar", entries=[RECORD]), "followed by")
        next(read_tar(tar))
    assert len(os.listdir("/proc/self/fd")) == before
