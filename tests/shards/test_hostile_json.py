"""JSON, manifests and indexes that would stop a reader: linear time, stated limits, one line."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shards import strict_json
from shards.errors import DataError, parsing, shown
from shards.small_files import read_lines, read_whole
from shards.tars.index import index_path, read_index
from shards.tars.manifest import NAME, Manifest, Shard, read_manifest
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter

from .pictures import jpeg

# Of tests whose input is so large that a reader of quadratic time would need longer; ours needs a few seconds.
ENDS = pytest.mark.timeout(300)


@ENDS
def test_a_repeated_key_among_many_is_found_in_linear_time():
    keys = [f"{number:06d}" for number in range(1_000_000)]
    text = "{" + ",".join(f'"{key}": 1' for key in [*keys, keys[7]]) + "}"
    with pytest.raises(DataError, match="key '000007' appears twice"):
        strict_json.loads(text.encode(), where="x.json")


@ENDS
def test_a_repeated_name_among_many_is_found_in_linear_time(tmp_path):
    shards = [Shard(name=f"{number:06d}.tar", bytes=1, sha256="0" * 64, samples=1) for number in range(100_000)]
    value = Manifest.of(shards, private=False).model_dump()
    value["files"] = [{"name": "000007.tar", "bytes": 1, "sha256": "0" * 64}]
    (tmp_path / NAME).write_bytes(json.dumps(value).encode())
    with pytest.raises(DataError, match=r"000007\.tar is listed twice"):
        read_manifest(tmp_path / NAME)


@pytest.mark.parametrize("change", ["shards", "fields", "entry"])
def test_a_million_mistakes_in_a_manifest_are_one_line(tmp_path, change):
    many = {f"k{number}": 1 for number in range(300_000)}
    value = {"private": False, "shards": [], "totals": {"shards": 0, "samples": 0, "bytes": 0}}
    value |= {"shards": {"shards": [0] * 1_000_000}, "fields": many, "entry": {"shards": [many]}}[change]
    (tmp_path / NAME).write_bytes(json.dumps(value).encode())
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / NAME)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1e999}',
        b'{"' + b"k" * 100_000 + b'": 1, "' + b"k" * 100_000 + b'": 2}',
        b'{"a": -' + b"9" * 100_000 + b".5}",
        b'{"a": "\xff"}',
        b" " * (strict_json.MAX_BYTES + 1),
    ],
)
def test_json_that_no_parser_should_take_is_one_short_line(data):
    with pytest.raises(DataError, match=r"^x\.json: ") as caught:
        strict_json.loads(data, where="x.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_manifest_that_is_a_fifo_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(DataError, match="not a regular file"):
        read_manifest(tmp_path / NAME)


def test_files_are_read_up_to_the_stated_size(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_whole(path, limit=5) == b"12345"
    with pytest.raises(DataError, match="5 bytes, allowed are 4"):
        read_whole(path, limit=4)
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "missing", limit=4)
    for name in ("a\0b", "\ud800"):
        with pytest.raises(DataError):
            read_whole(tmp_path / name, limit=4)
    path.write_bytes(b"a\r\nb\rc\n")
    assert read_lines(path, limit=9) == "a\nb\nc\n"
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="not a text file"):
        read_lines(path, limit=9)


@pytest.mark.parametrize(
    "error", [KeyError("x"), MemoryError(), ValueError("a\nb"), OSError(5, "broken"), RuntimeError()]
)
def test_whatever_a_parser_raises_is_one_line(error):
    with (
        pytest.raises(DataError, match=r"^x\.bin: not a whole file \(.+\); fetch it again$"),
        parsing("x.bin", kind="a whole file"),
    ):
        raise error


def test_a_request_to_stop_is_no_damage():
    with pytest.raises(KeyboardInterrupt), parsing("x", kind="a file"):
        raise KeyboardInterrupt


def test_what_a_message_shows_is_short_and_printable():
    assert shown("abc") == "abc"
    assert shown("a" * 100, limit=10) == "a" * 10 + "..."
    assert shown("a\x1b[31m\x00") == "a\\x1b[31m\\x00"
    assert shown("first\nsecond") == "first"


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        tar = TarWriter(file)
        for number in range(3):
            tar.add(f"a-{number}", jpg=jpeg(number, size=16), record={"identity": "p"})
        tar.close()
    index_path(path).write_bytes(tar.index())
    return path


def rewritten(tar: Path, *, compress: bool = False, **changes: object) -> None:
    """The index with other members."""
    with np.load(index_path(tar)) as file:
        members = dict(file)
    members |= changes
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **members)
    index_path(tar).write_bytes(buffer.getvalue())


@pytest.mark.parametrize("keys", ["a-0\na-1\n\u00e9", "a-0\na-1\n../x", "a-0\na-1\nA", "a-0\na-1\n" + "x" * 91])
def test_keys_that_no_sample_can_have_are_refused(tar, keys):
    rewritten(tar, keys=np.frombuffer(keys.encode(), np.uint8))
    with pytest.raises(DataError, match="not an index of format"):
        ShardSet([tar])


@pytest.mark.parametrize("value", [2**63 - 1, 2**62, -1, -(2**63)])
def test_spans_whose_sums_overflow_are_refused(tar, value):
    spans = read_index(index_path(tar)).spans
    for place in range(spans.size):
        changed = spans.copy()
        changed.flat[place] = value
        rewritten(tar, spans=changed)
        with pytest.raises(DataError):
            ShardSet([tar])


def test_a_compressed_index_is_refused_as_it_may_be_of_any_size(tar):
    rewritten(tar, compress=True, more=np.zeros(10_000_000))
    with pytest.raises(DataError, match="it is compressed"):
        read_index(index_path(tar))


@pytest.mark.parametrize("member", ["spans.npy", "labels.npy", "tar_bytes.npy", "keys.npy", "format.npy"])
@pytest.mark.parametrize("shape", [b"(99999999999999,)", b"(9999999999, 9999999999)", b"(-1,)", b"(((((((((1"])
def test_shapes_of_any_size_in_an_index_are_one_line(tar, member, shape):
    buffer = io.BytesIO()
    with zipfile.ZipFile(index_path(tar)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == member:
                header = b"{'descr': '<i8', 'fortran_order': False, 'shape': " + shape + b", }"
                data = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + data[128:]
            new.writestr(name, data)
    index_path(tar).write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="not a") as caught:
        read_index(index_path(tar))
    assert "\n" not in str(caught.value)
