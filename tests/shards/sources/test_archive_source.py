"""Zip and tar archives of identity folders: every member has an outcome, and nothing is extracted."""
# ruff: noqa: N802

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.images.faces import UnreadableFaceError, unescaped
from shards.images.outcomes import Outcome
from shards.sources.folder import FolderSource
from shards.sources.sources import open_source

from .test_folder_source import NAMES

TREE = {"anna/1.jpg": b"one", "anna/2.jpg": b"second" * 200, "bob/1.jpg": b"third"}


def zipped(path: Path, members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression=method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes], *, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(data), 1.5  # a broken second makes a PAX header per member
            archive.addfile(header, io.BytesIO(data))
    return path


PACKERS = {
    "stored zip": lambda path, members: zipped(path / "a.zip", members, method=zipfile.ZIP_STORED),
    "deflated zip": lambda path, members: zipped(path / "a.zip", members),
    "pax": lambda path, members: tarred(path / "a.tar", members),
    "gnu": lambda path, members: tarred(path / "a.tar", members, form=tarfile.GNU_FORMAT),
    "ustar": lambda path, members: tarred(path / "a.tar", members, form=tarfile.USTAR_FORMAT),
}


@pytest.mark.parametrize("packer", PACKERS)
def test_an_archive_lists_the_images_of_its_tree_in_byte_order(tmp_path, packer):
    path = PACKERS[packer](tmp_path, dict(reversed(TREE.items())))
    source = open_source(path)
    listing = source.listing()
    assert [(face.identity, face.path) for face in listing.faces] == [
        (name.split("/")[0], f"{path.name}/{name}") for name in sorted(TREE)
    ]
    assert [source.read(face) for face in listing.faces] == [TREE[name] for name in sorted(TREE)]
    assert listing.skipped == ()


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("around", ["lfw/", "./data/faces/", "/"])
def test_folders_around_all_identities_are_skipped(tmp_path, packer, around):
    members = {around + name: data for name, data in TREE.items()} | {"README.txt": b"about"}
    listing = open_source(PACKERS[packer](tmp_path, members)).listing()
    assert listing.images_per_identity == {"anna": 2, "bob": 1}
    assert listing.counts == {"ignored": 1}


def test_folders_inside_identities_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", TREE | {"bob/more/1.jpg": b"lost?"})
    with pytest.raises(DataError, match="bob/more is a folder inside an identity"):
        open_source(path).listing()


@pytest.fixture
def odd_tree(tmp_path: Path) -> Path:
    """A folder tree with the most unusual names a file system allows."""
    root = tmp_path / "odd"
    for number, name in enumerate(NAMES):
        folder = os.path.join(os.fsencode(root), name)
        os.makedirs(folder)
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(b"%d" % number)
    return root


@pytest.mark.parametrize("tool", [["tar", "cf"], ["tar", "--format=pax", "-cf"], ["zip", "-qr"], ["zip", "-qr0"]])
def test_B22_B23_B24_unusual_names_in_archives_of_other_tools_equal_those_of_the_tree(tmp_path, odd_tree, tool):
    packed = tmp_path / f"odd.{'zip' if tool[0] == 'zip' else 'tar'}"
    subprocess.run([*tool, packed, "."], cwd=odd_tree, check=True, capture_output=True)
    tree, archive = FolderSource(odd_tree), open_source(packed)
    expected = {unescaped(face.path): tree.read(face) for face in tree.listing().faces}
    listing = archive.listing()
    assert {unescaped(face.path.partition("/")[2]): archive.read(face) for face in listing.faces} == expected
    assert listing.skipped == ()


def test_backslashes_of_windows_archivers_separate_folders(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in TREE.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 0
            info.filename = info.orig_filename = name.replace("/", "\\")
            archive.writestr(info, data)
    assert open_source(path).listing().images_per_identity == {"anna": 2, "bob": 1}


def test_a_repeated_name_replaces_the_earlier_member_and_is_counted(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for data in (b"old", b"newer"):
            header = tarfile.TarInfo("anna/1.jpg")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    source = open_source(path)
    listing = source.listing()
    assert [source.read(face) for face in listing.faces] == [b"newer"]
    assert listing.counts == {"duplicate": 1}


def test_B25_system_files_and_hidden_members_are_ignored(tmp_path):
    system_files = {
        "__MACOSX/anna/._1.jpg": b"x",
        "anna/.DS_Store": b"x",
        "anna/Thumbs.db": b"x",
        "../../escape/1.jpg": b"x",
    }
    listing = open_source(zipped(tmp_path / "a.zip", TREE | system_files)).listing()
    assert listing.counts == {"ignored": 4}
    assert len(listing.faces) == 3


def test_B26_B27_links_and_devices_in_a_tar_are_counted_never_followed(tmp_path):
    path = tarred(tmp_path / "a.tar", TREE)
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
    with tarfile.open(path, "a") as archive:
        for kind in kinds:
            header = tarfile.TarInfo(f"anna/{kind.decode()}.jpg")
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    listing = open_source(path).listing()
    assert listing.counts == {"not_regular": 3, "symlink": 1}
    assert len(listing.faces) == 3


def test_B26_links_in_a_zip_are_counted_never_followed(tmp_path):
    path = zipped(tmp_path / "a.zip", TREE)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("anna/link.jpg")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert open_source(path).listing().counts == {"symlink": 1}


def test_B26_archives_that_are_links_are_refused_not_opened_and_not_missed(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    tarred(folder / "a.tar", TREE)
    (folder / "b.tar").symlink_to(zipped(tmp_path / "secret.zip", {"carl/1.jpg": b"x"}))
    with pytest.raises(DataError, match=r"parts: b\.tar is a link, and links are not followed"):
        open_source(folder).listing()


def test_a_folder_of_archives_is_one_source(tmp_path):
    tarred(tmp_path / "a.tar", {"anna/1.jpg": b"one"})
    zipped(tmp_path / "b.zip", {"anna/1.jpg": b"two", "bob/1.jpg": b"three"})
    (tmp_path / "README").write_text("about")
    source = open_source(tmp_path)
    assert [(face.path, source.read(face)) for face in source.listing().faces] == [
        ("a.tar/anna/1.jpg", b"one"),
        ("b.zip/anna/1.jpg", b"two"),
        ("b.zip/bob/1.jpg", b"three"),
    ]


def test_B28_encrypted_and_unusually_compressed_members_are_unreadable(tmp_path):
    path = zipped(tmp_path / "a.zip", {"anna/1.jpg": b"x" * 500}, method=zipfile.ZIP_LZMA)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bob/1.jpg", b"fine")
    listing = open_source(path).listing()
    assert listing.counts == {"unreadable": 1}
    assert [face.identity for face in listing.faces] == ["bob"]


@pytest.mark.parametrize("packer", PACKERS)
def test_B29_a_member_that_disappeared_counts_as_changed(tmp_path, packer):
    path = PACKERS[packer](tmp_path, {"anna/1.jpg": os.urandom(100)})
    source = open_source(path)
    (face,) = source.listing().faces
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(UnreadableFaceError) as caught:
        open_source(path).read(face)
    assert caught.value.outcome == Outcome.CHANGED


def test_B03_damage_inside_a_zip_member_is_found_by_its_checksum(tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = zipped(tmp_path / "a.zip", {"anna/1.jpg": os.urandom(1000)}, method=method)
        data = bytearray(path.read_bytes())
        data[500] ^= 1
        path.write_bytes(data)
        source = open_source(path)
        with pytest.raises(UnreadableFaceError) as caught:
            source.read(source.listing().faces[0])
        assert caught.value.outcome == Outcome.CORRUPT


def test_B15_a_zip_bomb_is_not_unpacked(tmp_path):
    path = zipped(tmp_path / "a.zip", {"anna/1.jpg": bytes(300 * 2**20)})
    assert path.stat().st_size < 2**20
    source = open_source(path)
    with pytest.raises(UnreadableFaceError) as caught:
        source.read(source.listing().faces[0])
    assert caught.value.outcome == Outcome.TOO_LARGE


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_B33_B34_an_archive_cut_anywhere_is_refused(tmp_path, packer, kept):
    path = PACKERS[packer](tmp_path, {f"anna/{n}.jpg": os.urandom(2000) for n in range(20)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match=path.name) as caught:
        open_source(path).listing()
    assert "\n" not in str(caught.value)


def test_B34_a_tar_cut_at_a_member_boundary_is_refused(tmp_path):
    path = tarred(tmp_path / "a.tar", TREE, form=tarfile.USTAR_FORMAT)
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(DataError, match="no tar header at byte 1024"):
        open_source(path).listing()


def test_B34_two_tars_in_one_file_are_refused(tmp_path):
    path = tarred(tmp_path / "a.tar", TREE)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match="two tars in one file"):
        open_source(path).listing()


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b" + bytes(600), b"text" * 200, bytes(10_240)])
@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_B35_B36_a_file_that_is_not_an_archive_is_refused_in_one_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=name) as caught:
        open_source(tmp_path / name).listing()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_archive_is_read_or_refused_without_crashing(tmp_path, seed):
    draw = random.Random(seed)
    packer = PACKERS[sorted(PACKERS)[seed % len(PACKERS)]]
    path = packer(tmp_path, TREE | {"x" * 120 + "/1.jpg": b"long"})
    data = bytearray(path.read_bytes())
    for _ in range(8):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(data)
    source = open_source(path)
    try:
        faces = source.listing().faces
    except DataError:
        return
    for face in faces:
        with suppress(UnreadableFaceError):
            assert len(source.read(face)) == face.bytes
