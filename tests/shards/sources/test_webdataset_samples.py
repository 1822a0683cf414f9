"""WebDataset tars as a source: identities from .cls or .json; other members are never parsed."""
# ruff: noqa: N802

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset

from shards.sources.sources import first_of_equals, open_source, with_hashes

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


@pytest.mark.parametrize("label", [b"nan", b"inf\n", b"null", b"None", b""])
def test_a_class_file_without_a_value_gives_no_identity(tmp_path, label):
    """Otherwise all of its images would be of one person."""
    members = {"0.jpg": b"one", "0.cls": b"3", "1.jpg": b"two", "1.cls": label, "2.jpg": b"three", "2.cls": label}
    listing = open_source(tarred(tmp_path / "set.tar", members)).listing()
    assert ([face.identity for face in listing.faces], listing.counts) == (["3"], {"no_identity": 2})


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


def outcomes(path: Path) -> tuple[list[str], dict[str, str]]:
    """The identities in order, and the reason of each member that is not read."""
    listing = open_source(path).listing()
    return [face.identity for face in listing.faces], {skip.path: skip.detail for skip in listing.skipped}


@pytest.mark.parametrize(
    ("name", "data", "identity"),
    [
        ("json", b'{"label": 7, "score": NaN, "box": [Infinity]}', "7"),
        ("json", b'{"label": 7, "note": 1, "note": 2, "x": {"label": 3}}', "7"),
        ("json", b'{"label": 7.0}', "7"),
        ("json", b'\xef\xbb\xbf{"label": 7}', "7"),
        ("JSON", b'{"label": 7}', "7"),
        ("cls", b"\xef\xbb\xbf7\r\n", "7"),
        ("cls", "7".encode("utf-16"), "7"),
        ("CLS", b"7", "7"),
        ("cls", b"7.0", "7"),
        ("cls", b"7.000000000000000000e+00\n", "7"),  # of numpy.savetxt
        ("cls", b"07", "07"),
        ("cls", b"6.5", "6.5"),
    ],
)
def test_an_identity_that_is_unambiguous_is_read_whatever_is_around_it(tmp_path, name, data, identity):
    members = {"0.jpg": b"x", "0.cls": b"7", "1.jpg": b"y", f"1.{name}": data}
    assert outcomes(tarred(tmp_path / "set.tar", members)) == ([identity, "7"], {})


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (b'{"label": NaN}', "label in its .json is nan, expected text or a whole number"),
        (b'{"label": 1.5}', "label in its .json is 1.5, expected text or a whole number"),
        (b'{"label": 1, "label": 2}', "its .json has label 2 times"),
        (b'{"age": 1}', "its .json has none of identity, label, cls"),
        (b"[1]", "its .json holds no object"),
        (b"{", "its .json is invalid: Expecting property name"),
        (b'{"label": ""}', "its label is empty or longer than 1000 characters"),
        (b" " * (2**20 + 1), "its label file has more than 1048576 bytes or has changed"),
    ],
)
def test_an_image_without_an_identity_has_the_reason(tmp_path, label, reason):
    members = {"0.jpg": b"one", "0.cls": b"3", "1.jpg": b"two", "1.json": label}
    _, skipped = outcomes(tarred(tmp_path / "set.tar", members))
    assert skipped["set.tar/1.jpg"].startswith(reason)


def test_keys_with_dots_are_read_where_the_label_has_the_same_name(tmp_path):
    members = {}
    for name in ("john.smith.01", "john.smith.02", "anna.b.01"):
        members |= {f"{name}.jpg": b"x", f"{name}.cls": name[:4].encode()}
    assert outcomes(tarred(tmp_path / "set.tar", members | {"c.d.jpg": b"x"})) == (
        ["anna", "john", "john"],
        {"set.tar/c.d.jpg": "no .cls or .json with it"},
    )


def test_parts_of_a_sample_are_no_images_of_their_own(tmp_path):
    members = {"0.jpg": b"x", "0.seg.png": b"mask", "0.seg.json": b'{"label": 9}', "0.cls": b"3"}
    for path in (
        tarred(tmp_path / "set.tar", members),
        tarred(tmp_path / "set.tar", dict(sorted(members.items(), key=lambda item: item[0].rpartition(".")[2]))),
    ):
        identities, skipped = outcomes(path)
        assert identities == ["3"]
        assert set(skipped.values()) == {"another part of a sample"}


@pytest.mark.parametrize("order", ["images first", "labels first", "by folder"])
def test_samples_whose_members_do_not_lie_side_by_side_are_read(tmp_path, order):
    images = {f"{number}.jpg": b"%d" % number for number in range(8)}
    labels = {f"{number}.cls": b"%d" % (number % 4) for number in range(8)}
    members = images | labels if order == "images first" else labels | images
    if order == "by folder":
        members = {f"set/{name}": data for name, data in members.items()}
    assert outcomes(tarred(tmp_path / "set.tar", members)) == ([str(person) for person in range(4) for _ in "ab"], {})


def test_labels_of_one_key_that_disagree_give_an_image_elsewhere_none(tmp_path):
    members = [("0.cls", b"1"), ("1.jpg", b"x"), ("1.cls", b"5"), ("0.json", b'{"label": 2}'), ("2.cls", b"5")]
    path = repeated(tmp_path / "set.tar", [*members, ("0.jpg", b"y")])
    identities, skipped = outcomes(path)
    assert identities == ["5"]
    assert skipped == {"set.tar/0.jpg": "the .cls and .json files of its key disagree"}


def test_litter_between_the_members_of_a_sample_does_not_part_them(tmp_path):
    members = {"._0.jpg": b"x", "0.jpg": b"one", "._0.cls": b"x", ".DS_Store": b"x", "0.cls": b"3"}
    identities, skipped = outcomes(tarred(tmp_path / "set.tar", members))
    assert identities == ["3"]
    assert set(skipped.values()) == {"hidden or of the system"}


def test_every_other_member_has_a_reason(tmp_path):
    members = {"0.jpg": b"one", "0.cls": b"3", "0.txt": b"x", "0.gif": b"x", "0.zip": b"x", "1.cls": b"4"}
    listing = open_source(tarred(tmp_path / "set.tar", members)).listing()
    assert {skip.path[8:]: (skip.outcome.value, skip.detail) for skip in listing.skipped} == {
        "0.txt": ("ignored", "neither an image nor a label"),
        "0.gif": ("format", "by its name not JPEG, PNG, WebP or PNM"),
        "0.zip": ("unreadable", "an archive inside the tar"),
    }


def repeated(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A tar in which names may come several times."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_name_that_comes_again_is_another_sample_with_its_own_label(tmp_path):
    members = [("0.jpg", b"one"), ("0.cls", b"3"), ("0.jpg", b"two"), ("0.cls", b"4"), ("0.jpg", b"two")]
    path = repeated(tmp_path / "set.tar", members[:4])
    assert people(path) == [("3", b"one"), ("4", b"two")]
    assert outcomes(repeated(path, members))[1] == {"set.tar/0.jpg": "the .cls and .json files of its key disagree"}
    assert people(repeated(path, [members[0], members[0], members[1]])) == [("3", b"one")] * 2


def test_with_only_the_first_of_equals_a_repeated_member_is_taken_once(tmp_path):
    members = [
        ("0.jpg", b"one"),
        ("0.cls", b"3"),
        ("1.jpg", b"two"),
        ("1.cls", b"3"),
        ("0.jpg", b"one"),
        ("0.cls", b"3"),
    ]
    path = repeated(tmp_path / "set.tar", members)
    faces = open_source(path).listing().faces
    kept, skipped = first_of_equals(with_hashes(path, faces))
    assert [face.path for face in kept] == ["set.tar/0.jpg", "set.tar/1.jpg"]
    assert [(skip.path, skip.outcome.value) for skip in skipped] == [("set.tar/0.jpg", "duplicate")]
