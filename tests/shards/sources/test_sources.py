"""The planned list of a source is stored, read back by the ranks, and compared with the files that exist then."""
# ruff: noqa: N802

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from shards.errors import DataError
from shards.images.faces import Face, Skip, UnreadableFaceError
from shards.images.outcomes import Outcome
from shards.images.rules import ImageRules
from shards.sources.folder import FolderSource
from shards.sources.formats import FormatError
from shards.sources.sources import (
    first_of_equals,
    list_bytes,
    open_source,
    read_checked,
    read_list,
    skips_bytes,
    with_hashes,
)

from ..pictures import encoded, picture
from .test_folder_source import NAMES, put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, data in {"a/1": b"one", "a/2": b"two", "b/1": b"one", "b/2": b"three"}.items():
        put(tmp_path / "faces" / path, data)
    return tmp_path / "faces"


def test_a_list_is_read_back_as_written_with_any_names(tmp_path):
    root = tmp_path / "faces"
    for name in NAMES:
        put(Path(str(root), "x", *[name.decode("utf-8", "surrogateescape")]))
    faces = [hashed.face for hashed in with_hashes(root, FolderSource(root).listing().faces)]
    data = list_bytes(faces)
    path = tmp_path / "list.tsv"
    path.write_bytes(data)
    assert read_list(path, sha256=hashlib.sha256(data).hexdigest()) == faces
    assert data.count(b"\n") == len(NAMES) + 1


def test_a_list_other_than_the_planned_one_is_refused(tmp_path):
    path = tmp_path / "list.tsv"
    with pytest.raises(DataError, match=r"list\.tsv: No such file"):
        read_list(path, sha256="0" * 64)
    path.write_bytes(list_bytes([Face(identity="a", path="a/1", bytes=3)]))
    with pytest.raises(DataError, match="is not the list that was planned"):
        read_list(path, sha256="0" * 64)


def test_B29_with_hashes_a_change_of_equal_size_is_detected(root):
    source = FolderSource(root)
    plain = source.listing().faces[0]
    (hashed,) = with_hashes(root, [plain])
    (root / "a" / "1").write_bytes(b"eno")
    assert read_checked(source, plain) == b"eno"
    with pytest.raises(UnreadableFaceError) as caught:
        read_checked(source, hashed.face)
    assert caught.value.outcome == Outcome.CHANGED


def test_unreadable_files_are_left_without_a_hash(root):
    faces = FolderSource(root).listing().faces
    (root / "a" / "2").unlink()
    hashed = with_hashes(root, faces)
    assert [bool(one.face.sha256) for one in hashed] == [True, False, True, True]
    assert hashed[0].face.sha256 == hashlib.sha256(b"one").hexdigest()


def test_B20_of_equal_files_the_first_is_kept_and_the_others_are_named(root):
    faces, skipped = first_of_equals(with_hashes(root, FolderSource(root).listing().faces))
    assert [face.path for face in faces] == ["a/1", "a/2", "b/2"]
    assert skipped == [Skip(path="b/1", outcome=Outcome.DUPLICATE, detail="equal to a/1")]
    assert skips_bytes(skipped) == b"path\toutcome\tdetail\nb/1\tduplicate\tequal to a/1\n"


def test_B20_equal_images_are_found_in_any_encoding(tmp_path):
    root, whole = tmp_path / "faces", picture(1)
    upright = Image.Exif()
    upright[0x0112] = 6  # rotate by 90 degrees clockwise
    put(root / "a" / "1", encoded(whole, "PNG"))
    put(root / "a" / "2", encoded(whole, "PPM"))
    put(root / "b" / "1", encoded(whole.transpose(Image.Transpose.ROTATE_90), "PNG", exif=upright))
    put(root / "b" / "2", encoded(picture(2), "PNG"))
    hashed = with_hashes(root, FolderSource(root).listing().faces, rules=ImageRules(size=32, resize="center"))
    kept, skipped = first_of_equals(hashed)
    assert [face.path for face in kept] == ["a/1", "b/2"]
    assert [skip.detail for skip in skipped] == ["equal to a/1", "equal to a/1"]


def test_images_that_cannot_be_hashed_are_never_duplicates(root):
    faces = FolderSource(root).listing().faces
    rules = ImageRules(size=32)
    assert first_of_equals(with_hashes(root, faces, rules=rules))[1] == []  # they are not images
    for face in faces:
        (root / face.path).unlink()
    kept, skipped = first_of_equals(with_hashes(root, faces))
    assert ([face.path for face in kept], skipped) == ([face.path for face in faces], [])


@pytest.mark.parametrize("name", ["faces.tar.gz", "faces.txt", "missing"])
def test_an_unsupported_source_is_refused_with_the_allowed_kinds(tmp_path, name):
    if name != "missing":
        put(tmp_path / name)
    with pytest.raises(DataError, match=r"expected a folder of identity folders, a \.zip, \.tar or \.rec file"):
        open_source(tmp_path / name)


@pytest.mark.parametrize("locked", ["above", "above/faces"])
def test_B28_a_source_without_read_permission_is_refused_in_one_line(locked):
    with tempfile.TemporaryDirectory() as name:  # which another user can reach, unlike the folders of pytest
        os.chmod(name, 0o755)
        source = put(Path(name) / "above" / "faces" / "a" / "1.jpg").parent.parent
        (Path(name) / locked).chmod(0)
        user = os.geteuid()
        os.seteuid(65534 if user == 0 else user)  # root may read everything
        try:
            with pytest.raises(DataError, match=r"above/faces: Permission denied"):
                open_source(source)
        finally:
            os.seteuid(user)
            (Path(name) / locked).chmod(0o755)


def test_a_folder_of_identities_with_an_archive_beside_them_is_refused_unless_its_format_is_stated(root):
    put(root / "backup.tar")
    with pytest.raises(FormatError, match=r"backup\.tar is an archive beside folders of images") as caught:
        open_source(root).listing()
    assert caught.value.formats == ("folder", "archives")
    listing = open_source(root, form="folder").listing()
    assert (len(listing.faces), listing.counts) == (4, {"ignored": 1})
