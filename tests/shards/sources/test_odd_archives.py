"""Archives and files that are unusual, damaged on purpose or replaced while open end in one line or in an outcome."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.images.faces import MAX_FILE_BYTES, UnreadableFaceError
from shards.images.outcomes import Outcome
from shards.sources.archive import ArchiveSource
from shards.sources.benchmarks.image_files import ImageSource
from shards.sources.open_files import MAX_OPEN, OpenFiles
from shards.sources.recordio import HEAD, MAGIC, records
from shards.sources.recordio_source import RecordSource
from shards.sources.sources import open_source

BLOCK = 512


def header(name: bytes, size: bytes, *, kind: bytes = b"0") -> bytes:
    """A USTAR header with any bytes in its size field and a right checksum."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes, data: bytes, *, kind: bytes = b"0", size: bytes | None = None) -> bytes:
    return header(name, b"%011o\0" % len(data) if size is None else size, kind=kind) + padded(data)


def pax(*records: bytes) -> bytes:
    return member(b"PaxHeader", b"".join(records), kind=b"x")


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = next(n for n in range(len(rest), len(rest) + 12) if len(b"%d" % n) + len(rest) == n)
    return b"%d" % length + rest


def archive(path: Path, *members: bytes) -> Path:
    path.write_bytes(b"".join(members) + bytes(2 * BLOCK))
    return path


PHOTO = member(b"anna/1.jpg", b"one")


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (member(b"anna/2.jpg", b"", size=b"12z"), r"a\.tar: the size at byte 0: .*not an octal number"),
        (member(b"anna/2.jpg", b"", size=b""), r"a\.tar: the size at byte 0: .*not an octal number"),
        (member(b"anna/2.jpg", b"", size=b"\x80" + b"\xff" * 11), r"ends inside the member at byte 0; it is cut"),
        (pax(b"no length"), r"a\.tar: a damaged PAX header at byte 0"),
        (pax(b"4 a=\n"), r"a damaged PAX header at byte 0"),
        (pax(b"99 path=x\n"), r"a damaged PAX header at byte 0"),
        (pax(b"9 path x\n"), r"a damaged PAX header at byte 0"),
        (pax(record(b"size", b"-1")), r"a damaged PAX header at byte 0"),
        (pax(record(b"size", b"")), r"a damaged PAX header at byte 0"),
        (pax(b"1" * 5000 + b" path=x\n"), r"a damaged PAX header at byte 0"),
        (pax(record(b"size", b"9" * 5000)), r"a damaged PAX header at byte 0"),
        (pax(record(b"size", b"9" * 15)), r"ends inside the member at byte \d+; it is cut"),
        (member(b"x", bytes(2**20 + 1), kind=b"x"), r"an extended header of 1048577 bytes .* allowed are 1048576"),
        (member(b"x", bytes(2**20 + 1), kind=b"L"), r"an extended header of 1048577 bytes .* allowed are 1048576"),
    ],
)
def test_a_tar_with_an_impossible_header_is_refused_in_one_line(tmp_path, first, words):
    path = archive(tmp_path / "a.tar", first, PHOTO)
    with pytest.raises(DataError, match=words) as caught:
        open_source(path).listing()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [b"\x80" + bytes(10) + b"\x03", b"3\0", b" 3 ", b"00000000003\0"])
def test_sizes_in_every_notation_are_read_and_the_image_with_them(tmp_path, size):
    source = open_source(archive(tmp_path / "a.tar", member(b"anna/1.jpg", b"one", size=size)))
    (face,) = source.listing().faces
    assert (face.bytes, source.read(face)) == (3, b"one")


def test_names_and_sizes_in_extended_headers_count_for_the_next_member_only(tmp_path):
    source = open_source(
        archive(
            tmp_path / "a.tar",
            member(b"global", record(b"path", b"every/where.jpg"), kind=b"g"),
            pax(record(b"path", b"bob/long.jpg")),
            member(b"anna/short.jpg", b"two"),
            member(b"././@LongLink", b"carl/longer.jpg\0", kind=b"L"),
            member(b"anna/cut", b"three"),
            PHOTO,
        )
    )
    faces = source.listing().faces
    assert [(face.path, source.read(face)) for face in faces] == [
        ("a.tar/anna/1.jpg", b"one"),
        ("a.tar/bob/long.jpg", b"two"),
        ("a.tar/carl/longer.jpg", b"three"),
    ]


def test_sparse_files_are_counted_not_read(tmp_path):
    sparse = pax(record(b"GNU.sparse.major", b"1"))
    listing = open_source(archive(tmp_path / "a.tar", sparse, member(b"anna/2.jpg", b"map"), PHOTO)).listing()
    assert [face.path for face in listing.faces] == ["a.tar/anna/1.jpg"]
    assert listing.counts == {"not_regular": 1}


def test_pipes_in_a_zip_are_counted_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        pipe = zipfile.ZipInfo("anna/pipe.jpg")
        pipe.create_system, pipe.external_attr = 3, stat.S_IFIFO << 16
        packed.writestr(pipe, b"x")
        packed.writestr("anna/1.jpg", b"one")
    listing = open_source(tmp_path / "a.zip").listing()
    assert (len(listing.faces), listing.counts) == (1, {"not_regular": 1})


def test_files_beside_the_folders_of_identities_are_counted(tmp_path):
    names = [b"set/anna/1.jpg", b"set/bob/1.jpg", b"set/readme.jpg", b"top.jpg"]
    listing = open_source(archive(tmp_path / "a.tar", *(member(name, b"one") for name in names))).listing()
    assert [face.identity for face in listing.faces] == ["anna", "bob"]
    assert sorted(skip.path for skip in listing.skipped) == ["a.tar/set/readme.jpg", "a.tar/top.jpg"]
    assert {skip.detail for skip in listing.skipped} == {"in no identity's folder"}


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.rec"])
def test_a_file_that_is_gone_before_it_is_listed_is_refused_and_read_as_an_outcome(tmp_path, name):
    source = RecordSource(tmp_path / name) if name == "a.rec" else ArchiveSource([tmp_path / name])
    with pytest.raises(DataError, match=rf"{name}: No such file"):
        source.listing()


def test_records_that_are_gone_before_they_are_read_end_in_an_outcome(tmp_path):
    payload = struct.pack("<IfQQ", 0, 1.0, 0, 0) + b"face"
    (tmp_path / "a.rec").write_bytes(HEAD.pack(MAGIC, len(payload)) + payload)
    listing = RecordSource(tmp_path / "a.rec").listing()
    (tmp_path / "a.rec").unlink()
    with pytest.raises(UnreadableFaceError, match="No such file") as caught:
        RecordSource(tmp_path / "a.rec").read(listing.faces[0])
    assert caught.value.outcome is Outcome.UNREADABLE


@pytest.mark.parametrize(("size", "words"), [(4, "has 4 bytes, too few"), (23, "has 23 bytes, too few")])
def test_a_record_too_short_for_an_image_is_refused_with_its_place(tmp_path, size, words):
    path = tmp_path / "a.rec"
    path.write_bytes(HEAD.pack(MAGIC, size) + padded(bytes(size))[: -(-size // 4) * 4])
    with path.open("rb") as file, pytest.raises(DataError, match=rf"a\.rec: the record at byte 0 {words}"):
        list(records(path, file.fileno()))


@pytest.mark.parametrize("name", ["train.idx", "list.txt"])
def test_a_folder_in_the_place_of_a_list_is_refused(tmp_path, name):
    payload = struct.pack("<IfQQ", 0, 0.0, 0, 0) + b"face"
    (tmp_path / "train.rec").write_bytes((HEAD.pack(MAGIC, len(payload)) + payload) * 2)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name}: Is a directory"):
        RecordSource(tmp_path / "train.rec").listing()


def test_as_many_files_stay_open_as_allowed_and_all_can_be_read(tmp_path):
    paths = [tmp_path / f"{number:03d}" for number in range(MAX_OPEN + 10)]
    for path in paths:
        path.write_text(path.name)
    before, files = len(os.listdir("/proc/self/fd")), OpenFiles()
    for path in [*paths, *paths[::-1], *paths[::7]]:
        assert os.pread(files.descriptor(path), 9, 0) == path.name.encode()
        assert len(os.listdir("/proc/self/fd")) <= before + MAX_OPEN
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_or_folder_is_refused_without_blocking_and_without_an_open_descriptor(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before, files = len(os.listdir("/proc/self/fd")), OpenFiles()
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DataError, match="not a regular file"):
            files.descriptor(path)
    assert len(os.listdir("/proc/self/fd")) == before


def tar_of_images(path: Path, data: bytes) -> Path:
    with tarfile.open(path, "w") as packed:
        info = tarfile.TarInfo("./anna/1.jpg")
        info.size = len(data)
        packed.addfile(info, io.BytesIO(data))
        folder = tarfile.TarInfo("anna")
        folder.type = tarfile.DIRTYPE
        packed.addfile(folder)
    return path


def test_an_image_cut_off_after_the_tar_was_opened_is_named(tmp_path):
    source = ImageSource(tar_of_images(tmp_path / "a.tar", b"x" * 700))
    assert source.read("anna/1.jpg") == b"x" * 700
    os.truncate(tmp_path / "a.tar", 1000)
    with pytest.raises(DataError, match=r"a\.tar: anna/1\.jpg ends early"):
        source.read("anna/1.jpg")
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match=r"a\.tar: anna/1\.jpg: No such file"):
        source.read("anna/1.jpg")
    with pytest.raises(DataError, match=r"a\.tar: has no anna$"):
        source.size("anna")


def test_a_file_too_large_for_an_image_is_refused_by_its_size(tmp_path):
    with (tmp_path / "big.jpg").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(DataError, match=rf"big\.jpg has {MAX_FILE_BYTES + 1} bytes, allowed are {MAX_FILE_BYTES}"):
        ImageSource(tmp_path).read("big.jpg")


@pytest.mark.parametrize("size", [b"zzz", b"", b"00000000004\0", b"\x80" + bytes(10) + b"\x04"])
def test_a_member_whose_size_was_rewritten_after_listing_has_changed(tmp_path, size):
    path = archive(tmp_path / "a.tar", PHOTO)
    source = open_source(path)
    (face,) = source.listing().faces
    with path.open("r+b") as file:
        file.write(header(b"anna/1.jpg", size))
    with pytest.raises(UnreadableFaceError, match=r"anna/1\.jpg: has moved or changed in the archive") as caught:
        source.read(face)
    assert caught.value.outcome is Outcome.CHANGED
