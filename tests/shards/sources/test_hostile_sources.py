"""Files that would stop a reader: numbers of any length, sizes of any value, work that grows with its square, FIFOs."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.exports.recordio_writer import framed
from shards.images.faces import UnreadableFaceError
from shards.images.outcomes import Outcome
from shards.sources.archive_tree import MAX_NAME
from shards.sources.benchmarks.bin_file import MAX_OPCODES, read_bin
from shards.sources.benchmarks.image_files import ImageSource
from shards.sources.benchmarks.pair_lists import read_pairs
from shards.sources.recordio import MAGIC, MAX_PARTS
from shards.sources.selections import read_selection
from shards.sources.sources import open_source
from shards.tars import ustar

LONG = "9" * 5000
# Of tests whose input is so large that a reader of quadratic time would need longer; ours needs a few seconds.
ENDS = pytest.mark.timeout(300)


def one_line(call: Callable[[], object], *, match: str | None = None) -> str:
    """The message of the DataError that a call raises, in one line."""
    with pytest.raises(DataError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def tar_header(name: bytes, size: bytes, *, kind: bytes = b"0") -> bytes:
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0"))
    block += b"00000000000\0" + b" " * 8 + kind + bytes(100) + ustar.MAGIC
    block += bytes(512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(content: bytes) -> bytes:
    return tar_header(b"pax", b"%011o" % len(content), kind=b"x") + content + bytes(-len(content) % 512)


PICTURE = tar_header(b"anna/1.jpg", b"%011o" % 4) + b"jpeg" + bytes(508)


@pytest.mark.parametrize("value", [2**40, 2**62, 2**63 - 1, 2**63, 2**64, 2**87])
def test_a_size_in_base_256_of_any_value_is_one_line(tmp_path, value):
    path = tmp_path / "x.tar"
    path.write_bytes(tar_header(b"anna/1.jpg", b"\x80" + value.to_bytes(11, "big")) + bytes(2048))
    one_line(lambda: open_source(path).listing(), match="it is cut short")
    one_line(lambda: ImageSource(path), match="not an uncompressed tar")


@pytest.mark.parametrize("record", [f"{LONG} size=1\n", f"5014 size={LONG}\n", "18446744073709551616 a=b\n", "0 a=b\n"])
def test_numbers_of_any_length_in_a_pax_header_are_one_line(tmp_path, record):
    path = tmp_path / "x.tar"
    path.write_bytes(pax(record.encode()) + PICTURE + bytes(1024))
    one_line(lambda: open_source(path).listing(), match="a damaged PAX header at byte 0")


@ENDS
def test_a_pax_header_of_a_megabyte_is_read_in_linear_time(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(pax(b"6 a=b\n" * (2**20 // 6)) + PICTURE + bytes(1024))
    assert len(open_source(path).listing().faces) == 1


def test_a_name_longer_than_any_path_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    name = b"x" * MAX_NAME + b"/1.jpg\0"
    path.write_bytes(
        tar_header(b"l", b"%011o" % len(name), kind=b"L") + name.ljust(4608, b"\0") + PICTURE + bytes(1024)
    )
    one_line(lambda: open_source(path).listing(), match=f"a name of {len(name) - 1} bytes")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x" * MAX_NAME + "/1.jpg", b"jpeg")
    one_line(lambda: open_source(tmp_path / "x.zip").listing(), match="a name of")


@pytest.mark.parametrize("size", [2**40, 2**62, 2**63, 2**64 - 1])
@pytest.mark.parametrize("field", ["size", "packed", "offset"])
def test_any_size_in_a_zip64_field_is_one_outcome(tmp_path, size, field):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("anna/1.jpg", b"jpeg")
    whole = buffer.getvalue()
    at = whole.index(b"PK\x01\x02")
    place = {"packed": 20, "size": 24, "offset": 42}[field]
    entry = bytearray(whole[at : at + 46 + len("anna/1.jpg")])
    entry[place : place + 4] = b"\xff" * 4
    extra = struct.pack("<HHQ", 1, 8, size)
    entry[30:32] = struct.pack("<H", len(extra))
    end = bytearray(whole[whole.index(b"PK\x05\x06") :])
    end[12:16] = struct.pack("<I", len(entry) + len(extra))
    path = tmp_path / "x.zip"
    path.write_bytes(whole[:at] + entry + extra + end)
    source = open_source(path)
    with pytest.raises(DataError) as caught:
        source.read(source.listing().faces[0])
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, UnreadableFaceError):  # a newer zipfile refuses the archive itself
        assert caught.value.outcome in (Outcome.CORRUPT, Outcome.TOO_LARGE)


def test_a_zip_whose_directory_would_not_fit_into_memory_is_refused_unread(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x06\x06" + bytes(36) + struct.pack("<Q", 2**40) + bytes(8) + b"PK\x05\x06" + bytes(18))
    one_line(lambda: open_source(path).listing(), match="a directory of 1099511627776 bytes")


def recordio(folder: Path, data: bytes, **beside: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in beside.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    (folder / "x.rec").write_bytes(data)
    return folder / "x.rec"


def image(label: float, *, ids: int = 0, flag: int = 0, more: bytes = b"\xff\xd8jpeg") -> bytes:
    return struct.pack("<IfQQ", flag, label, ids, ids) + more


def test_a_header_that_is_split_by_the_magic_word_is_read(tmp_path):
    """The ids of a record may hold the magic word, which readers and writers of the format cut out."""
    magic = int.from_bytes(MAGIC + MAGIC, "little")
    payloads = [image(3.0, ids=magic), image(0.0, flag=2, more=struct.pack("<ff", 5.0, 6.0) + b"\xff\xd8 "), image(1.0)]
    path = recordio(tmp_path / "set", b"".join(part for payload in payloads for part in framed(payload)))
    source = open_source(path)
    faces = source.listing().faces
    assert [face.identity for face in faces] == ["1", "3", "5"]
    assert [source.read(face) for face in faces] == [b"\xff\xd8jpeg", b"\xff\xd8jpeg", b"\xff\xd8 "]


@pytest.mark.parametrize("parts", [[1, 3], [1, 2, 3], [3], [2], [1, 1, 3], [1, 0], [4], [7], [1, 5]])
@pytest.mark.parametrize("size", [0, 4, 8, 24])
def test_parts_of_any_size_and_order_are_records_or_one_line(tmp_path, parts, size):
    body = (image(1.0) * 9)[:size]
    data = b"".join(MAGIC + struct.pack("<I", part << 29 | size) + body for part in parts)
    path = recordio(tmp_path / "set", data)
    with suppress(DataError):
        open_source(path).listing()


def test_empty_parts_without_end_are_refused_at_a_stated_number(tmp_path):
    data = MAGIC + struct.pack("<I", 1 << 29) + (MAGIC + struct.pack("<I", 2 << 29)) * 300_000
    path = recordio(tmp_path / "set", data + MAGIC + struct.pack("<I", 3 << 29))
    one_line(lambda: open_source(path).listing(), match=f"more than {MAX_PARTS} parts")


@pytest.mark.parametrize(
    "beside",
    [
        {"x_idx": f"{LONG}\t0\n".encode()},
        {"x_idx": f"0\t{LONG}\n".encode()},
        {"list_txt": f"{LONG}\tp/1.jpg\n".encode()},
    ],
)
def test_long_digits_beside_a_recordio_are_one_line(tmp_path, beside):
    data = b"".join(part for _ in range(2) for part in framed(image(0.0)))
    one_line(lambda: open_source(recordio(tmp_path / "set", data, **beside)).listing(), match="expected")


@pytest.mark.parametrize("name", ["x.idx", "list.txt"])
def test_a_fifo_beside_a_recordio_is_refused_not_waited_for(tmp_path, name):
    path = recordio(tmp_path / "set", b"".join(part for _ in range(2) for part in framed(image(0.0))))
    os.mkfifo(path.with_name(name))
    one_line(lambda: open_source(path).listing(), match="not a regular file")


@pytest.mark.parametrize(
    "text",
    [
        f"{LONG}\n",
        f"1\t{LONG}\n",
        f"1\nanna\t{LONG}\t2\nanna\t1\tbob\t2\n",
        f"a,b,same,fold\nx,y,1,{LONG}\n",
        f"a,b,same\n{LONG * 100},y,1\n",
        "a,b,same\nx,y,\u00b2\n",
        "\u00b2\n",
        "a,b,same\nx\0,y,1\r1\n",
    ],
)
def test_long_digits_and_fields_in_a_pair_list_are_one_line(text):
    one_line(lambda: read_pairs(text, name="pairs.txt"), match=r"^pairs\.txt")


@ENDS
def test_a_hundred_thousand_folds_are_counted_in_linear_time():
    text = "a,b,same,fold\n" + "".join(f"x,y,1,{fold}\n" for fold in range(100_000))
    assert read_pairs(text, name="x").folds == 100_000


def test_a_long_field_in_a_selection_is_one_line():
    one_line(lambda: read_selection("path,x\n" + "9" * 200_000 + "/1,2\n", name="x"), match="^x: line 2")
    one_line(lambda: read_selection("9" * 200_000, name="x"), match="^x: line 1")


@pytest.mark.parametrize("path", ["a\0b", "\0", "a/\0/b", "\ud800", "a/" * 3000 + "b", "x" * 300, ""])
def test_paths_that_no_file_can_have_are_one_line(tmp_path, path):
    one_line(lambda: ImageSource(tmp_path).read(path))


def test_a_linked_folder_does_not_lead_out_of_the_images(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.jpg").write_bytes(b"private")
    images = tmp_path / "images"
    (images / "real").mkdir(parents=True)
    (images / "real" / "more").symlink_to(outside)
    (images / "anna").symlink_to(outside)
    for path in ("anna/1.jpg", "real/more/1.jpg"):
        one_line(lambda path=path: ImageSource(images).read(path), match="is outside of it: .* is a link")
    (images / "real" / "1.jpg").write_bytes(b"jpeg")
    (tmp_path / "link").symlink_to(images)
    assert ImageSource(tmp_path / "link").read("real/1.jpg") == b"jpeg"  # the user's own link to the folder


def test_in_a_folder_of_identities_every_link_is_an_outcome_and_the_counts_add_up(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.jpg").write_bytes(b"private")
    images = tmp_path / "images"
    (images / "anna").mkdir(parents=True)
    (images / "anna" / "1.jpg").write_bytes(b"jpeg")
    (images / "anna" / "2.jpg").symlink_to(outside / "1.jpg")
    (images / "anna" / "more").symlink_to(outside)
    (images / "bob").symlink_to(outside)
    (images / "carl").symlink_to(tmp_path / "missing")
    listing = open_source(images).listing()
    assert [face.path for face in listing.faces] == ["anna/1.jpg"]
    assert listing.counts == {"symlink": 4}


@pytest.mark.parametrize("opcode", [b"(t", b"(l", b"(", b"]", b")", b"]\x94", b"(t\x94", b"\x85", b"h\0"])
def test_a_bin_file_of_one_opcode_is_refused(opcode):
    one_line(lambda: read_bin(b"\x80\x02U\x01aq\x00" + opcode * (400_000 // len(opcode)) + b".", name="x.bin"))


def test_a_bin_file_of_many_megabytes_of_opcodes_takes_bounded_memory():
    with pytest.raises(DataError, match=f"more than {MAX_OPCODES} opcodes"):
        read_bin(b"\x80\x04" + b"]\x94" * 5_000_000 + b".", name="x.bin")


def test_text_encoded_again_and_again_is_refused():
    text = b"X" + struct.pack("<I", 1000) + b"a" * 1000 + b"q\x00"
    encode = b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R"
    one_line(lambda: read_bin(b"\x80\x02" + text + encode * 1000 + b".", name="x.bin"), match="larger than the file")


def test_one_image_repeated_to_many_times_the_file_is_refused():
    picture = b"\xff\xd8" + b"x" * 10_000
    data = pickle.dumps(([picture] * 10_000, [True] * 5000))
    one_line(lambda: read_bin(data, name="x.bin"), match="repeat to more than")


@pytest.mark.parametrize("name", ["x.tar", "x.zip", "x.rec"])
def test_members_of_a_thousand_digits_or_none_do_not_pass_as_files(tmp_path, name):
    (tmp_path / name).write_bytes(LONG.encode())
    one_line(lambda: open_source(tmp_path / name).listing())


def test_a_tar_written_by_tarfile_reads_the_same_for_benchmarks(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("\u00e9ric/" + "x" * 200 + ".jpg")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"jpeg"))
    assert ImageSource(path).read("\u00e9ric/" + "x" * 200 + ".jpg") == b"jpeg"
