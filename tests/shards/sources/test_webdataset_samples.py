"""WebDataset tars as a source: identities from .cls or .json; other members are never parsed."""
# ruff: noqa: N802

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import webdataset

from shards.sources.sources import open_source

from ..pictures import write_tar
from .test_archive_source import tarred


def webdataset_tar(path: Path, samples: list[dict[str, Any]]) -> Path:
    """Written by webdataset's own writer, with its defaults."""
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def people(path: Path) -> list[tuple[str, bytes]]:
    source = open_source(path)
    return [(face.identity, source.read(face)) for face in source.listing().faces]


def test_classes_and_json_fields_are_identities(tmp_path):
    samples: list[dict[str, Any]] = [
        {"__key__": "a/000", "jpg": b"one", "cls": 12},
        {"__key__": "a/001", "png": b"two", "json": {"identity": "anna"}},
        {"__key__": "a/002", "jpg": b"three", "json": {"label": 7, "caption": "x"}},
    ]
    found = people(webdataset_tar(tmp_path / "set.tar", samples))
    assert found == [("12", b"one"), ("7", b"three"), ("anna", b"two")]


def test_our_own_tars_are_a_source(tmp_path):
    path = write_tar(tmp_path / "real-00000.tar", [("000", "zoe"), ("001", "anna")])
    assert [identity for identity, _ in people(path)] == ["anna", "zoe"]


def test_a_folder_of_tars_is_one_source(tmp_path):
    for number in range(3):
        webdataset_tar(tmp_path / f"set-{number}.tar", [{"__key__": "0", "jpg": b"%d" % number, "cls": 5 - number}])
    (tmp_path / "index.json").write_text("{}")
    assert people(tmp_path) == [("3", b"2"), ("4", b"1"), ("5", b"0")]


def test_B40_pickles_and_other_members_are_counted_never_parsed(tmp_path):
    bomb = pickle.dumps(pytest.fail)
    members = {"0.jpg": b"one", "0.cls": b"3", "0.pyd": bomb, "0.pth": bomb, "0.seg.png": b"mask"}
    source = open_source(tarred(tmp_path / "set.tar", members))
    listing = source.listing()
    assert [face.identity for face in listing.faces] == ["3"]
    assert listing.counts == {"ignored": 3}
    assert [skip.path for skip in listing.skipped] == ["set.tar/0.pyd", "set.tar/0.pth", "set.tar/0.seg.png"]


@pytest.mark.parametrize(
    "label",
    [b'{"identity": null}', b'{"identity": true}', b'{"label": NaN}', b"{", b"[1]", b'{"label": 1, "label": 2}'],
)
def test_B39_B42_images_without_a_readable_identity_are_counted(tmp_path, label):
    members = {"0.jpg": b"one", "0.cls": b"3", "1.jpg": b"two", "1.json": label, "2.jpg": b"three"}
    listing = open_source(tarred(tmp_path / "set.tar", members)).listing()
    assert len(listing.faces) == 1
    assert listing.counts == {"no_identity": 2}


def test_unusual_identities_become_one_line_of_text(tmp_path):
    record = json.dumps({"identity": "two\nlines % \u202e"}).encode()
    ((identity, _),) = people(tarred(tmp_path / "set.tar", {"0.jpg": b"x", "0.json": record}))
    assert identity == "two%0Alines %25 %E2%80%AE"
