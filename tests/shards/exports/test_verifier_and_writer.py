"""The verifier's answers in this process, and the limits of the RecordIO writer."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.exports import recordio_writer, standalone_verify
from shards.exports.recordio_writer import RecordWriter, framed
from shards.images.headers import open_header, orientation
from shards.images.rules import ImageRules
from shards.sources.recordio import records
from shards.tars.manifest import NAME, Manifest, describe_shard, manifest_bytes

from ..pictures import jpeg, with_exif, write_tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shard = describe_shard(write_tar(tmp_path / "a.tar", [("0", "anna")]), samples=1)
    (tmp_path / NAME).write_bytes(manifest_bytes(Manifest.of([shard], private=False)))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["verify.py", *map(str, arguments)])
    return standalone_verify.main()


def test_a_whole_folder_passes_with_the_number_of_its_tars(folder, monkeypatch, capsys):
    assert run(monkeypatch, folder) == 0
    whole = f"{folder}: 1 tars and all other files are as published"
    unmarked = "unmarked: of an older version, whose pictures do not say that they are synthetic"
    assert capsys.readouterr().out == f"{whole}; {unmarked}; unsigned\n"


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["a", "b"], ["--signer"], ["a", "--sign", "b"]])
def test_help_and_wrong_use_print_how_it_is_used(monkeypatch, capsys, arguments):
    assert run(monkeypatch, *arguments) == 1
    assert "python verify.py [FOLDER] [--signer FILE]" in capsys.readouterr().out


def test_every_difference_is_a_line_and_fails(folder, monkeypatch, capsys):
    manifest = json.loads((folder / NAME).read_text())
    manifest["files"] = [manifest["shards"][0], {"name": "a.tar/x", "bytes": 1, "sha256": ""}]
    (folder / NAME).write_text(json.dumps(manifest))
    (folder / "b.tar").mkdir()
    assert run(monkeypatch, folder) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a.tar/x: missing",
        "a.tar: listed twice",
        "b.tar: not in the manifest",
    ]


@pytest.mark.parametrize("text", [None, "", "[]", "null", '{"shards": [{"name": 5}]}', '{"shards": [1]}'])
def test_a_manifest_that_cannot_be_read_is_one_line(folder, monkeypatch, capsys, text):
    (folder / NAME).unlink()
    if text is not None:
        (folder / NAME).write_text(text)
    assert run(monkeypatch, folder) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{folder / NAME}: unreadable: ")
    assert out.count("\n") == 1


def test_a_part_longer_than_its_length_field_is_refused(monkeypatch):
    monkeypatch.setattr(recordio_writer, "MAX_LENGTH", 8)
    assert b"".join(framed(bytes(8)))
    with pytest.raises(DataError, match="RecordIO: got a part of 9 bytes, allowed are 8"):
        list(framed(bytes(9)))


@pytest.mark.parametrize(("images", "classes"), [(2, 1), (1, 2), (0, 0), (0, 1)])
def test_counts_other_than_promised_are_refused_at_the_end(images, classes):
    writer = RecordWriter(io.BytesIO(), images=images, classes=classes)
    writer.add(jpeg(size=16), label=0)
    with pytest.raises(DataError, match="RecordIO: 1 images of 1 identities, but other counts were given at the start"):
        writer.close()


def test_written_records_are_read_back_with_their_labels(tmp_path):
    buffer = io.BytesIO()
    writer = RecordWriter(buffer, images=3, classes=2)
    for label in (0, 0, 1):
        writer.add(jpeg(label, size=16), label=label)
    index = writer.close()
    (tmp_path / "train.rec").write_bytes(buffer.getvalue())
    with (tmp_path / "train.rec").open("rb") as file:
        found = list(records(tmp_path / "train.rec", file.fileno()))
    assert [record.label for record in found if record.image_bytes] == [0, 0, 1]
    assert [int(line.split(b"\t")[1]) for line in index.splitlines()] == [record.at for record in found]


@pytest.mark.parametrize("exif", [b"", b"MM", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12"])
def test_an_orientation_that_cannot_be_read_is_one_or_none_never_a_crash(exif):
    header = open_header(with_exif(jpeg(), exif), rules=ImageRules(size=112))
    assert orientation(header) in (1, None)
