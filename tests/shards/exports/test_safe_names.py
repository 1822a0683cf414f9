"""Names from records become no paths, and "label k is line k" holds whatever the identities are called."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.exports.formats import FORMATS
from shards.exports.safe_names import file_names, folder_names, line_of
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter

from ..pictures import jpeg, write_tar
from .test_formats import exported

HOSTILE = {
    "parents": "../../../escaped",
    "absolute": "/tmp/escaped",
    "the folder itself": ".",
    "its parent": "..",
    "line feed": "ann\nmia",
    "other line ends": "ann\u2028mia\x85zoe\x0b",
    "NUL": "ann\0mia",
    "long": "x" * 5000,
    "device": "CON",
    "device with ending": "nul.txt",
    "dot at the end": "ann.",
    "space at the end": "ann ",
    "other case": "Zoe",
    "decomposed": unicodedata.normalize("NFD", "zoë"),
    "a file of the export": "records.jsonl",
    "its hashes": "sha256sums",
    "backslash": "a\\b",
    "an option": "-rf",
    "folder": "a/b",
    "bell": "\a",
}


def set_of(folder: Path, identities: list[str]) -> ShardSet:
    return ShardSet([write_tar(folder / "a.tar", [(f"{row:06d}", name) for row, name in enumerate(identities)])])


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_folders_stay_inside_and_their_order_is_that_of_the_labels(tmp_path: Path, name: str) -> None:
    shards = set_of(tmp_path, [name, "zoe", "ann", "zoë", name])
    folder = exported(shards, "folders", tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert len(folders) == 4
    assert len({one.casefold() for one in folders}) == 4
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().split("\n")[:-1]]
    assert len(lines) == 5
    for line in lines:
        assert line["identity"] == shards.classes[line["label"]]
        assert line["file_name"].split("/")[0] == folders[line["label"]]
        assert (folder / line["file_name"]).is_file()
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_label_k_is_line_k_of_the_list_of_classes(tmp_path: Path, name: str) -> None:
    shards = set_of(tmp_path, [name, "zoe", "ann", "mia"])
    folder = exported(shards, "recordio", tmp_path / "rec")
    text = (folder / "classes.txt").read_bytes().decode()
    assert text.endswith("\n")
    assert text.splitlines() == text[:-1].split("\n") == [line_of(one) for one in shards.classes]
    assert len(set(text.splitlines())) == 4


def test_plain_names_stay_as_they_are() -> None:
    names = sorted(["Aaron_Eckhart", "ann", "0001", "zoë", "synthetic-000001", "two words", "v1.2"])
    assert folder_names(names) == names
    assert [line_of(name) for name in names] == names


def test_names_are_readable_distinct_and_the_same_again() -> None:
    names = sorted([*HOSTILE.values(), "zoe", "Ann", "ann"])
    found = folder_names(names)
    assert found == sorted(found) == folder_names(names)
    assert len({one.casefold() for one in found}) == len(names)
    assert all(one.isascii() and "/" not in one and len(one) < 100 for one in found)
    assert found[names.index("ann\nmia")].endswith("_ann_mia")
    assert found[names.index("../../../escaped")].endswith("escaped")


def test_keys_with_slashes_become_distinct_files(tmp_path: Path) -> None:
    assert file_names(["a/b", "c"]) == ["a-b", "c"]
    assert file_names(["a/b", "a-b"]) == ["a.b", "a-b"]
    assert len(set(file_names(["a/b-c", "a-b/c", "a-b-c", "a/b/c"]))) == 4
    assert file_names(["con", "lpt1"]) == ["=con", "=lpt1"]
    shards = ShardSet([write_tar(tmp_path / "a.tar", [("p/0", "ann"), ("p-0", "ann")])])
    assert len(list(exported(shards, "folders", tmp_path / "out").glob("ann/*.jpg"))) == 2


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "broken", [b"no image", jpeg(0, size=32)[:-200], b"\xff\xd8\xff"], ids=["text", "cut", "magic"]
)
def test_a_broken_image_is_not_exported(tmp_path: Path, form: str, broken: bytes) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        tar = TarWriter(file)
        tar.add("000000", jpg=jpeg(0, size=32), record={"identity": "ann"})
        tar.add("000001", jpg=broken, record={"identity": "ann"})
        tar.close()
    with pytest.raises(DataError, match=r"a.tar: 000001: .*; nothing is exported, get the set again"):
        exported(ShardSet([tmp_path / "a.tar"]), form, tmp_path / "out")
    assert not list((tmp_path / "out").glob("ann/000001.jpg"))
