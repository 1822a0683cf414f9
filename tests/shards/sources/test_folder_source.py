"""Listing and reading a folder of faces: unusual names, special files, files that change."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.images.faces import Face, UnreadableFaceError, escaped, unescaped
from shards.images.outcomes import Outcome
from shards.sources.folder import FolderSource

NAMES = [
    "caf\u00e9".encode(),  # NFC
    "cafe\u0301".encode(),  # NFD: another name to the file system
    "\U0001f600.jpg".encode(),
    "\u202egpj.evil".encode(),  # right-to-left override
    "\u05e9\u05dc\u05d5\u05dd".encode(),
    b"two\nlines.jpg",
    b"tab\there",
    b"-rf",
    b"100%",
    b"%41",
    b"with space.jpg",
    b"back\\slash",
    b'quo"te',
    b"latin-\xe9\xff.jpg",
    b"john.smith.01.jpg",
    b"x" * 255,
]


def put(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "b" / "1.jpg", b"one")
    put(tmp_path / "a" / "2.jpg", b"three")
    return tmp_path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_faces_are_listed_in_byte_order_with_their_sizes(root):
    put(root / "B" / "x.jpg")
    put(root / "a" / "10.jpg")
    listing = FolderSource(root).listing()
    assert [face.path for face in listing.faces] == ["B/x.jpg", "a/10.jpg", "a/2.jpg", "b/1.jpg"]
    assert listing.faces[2] == Face(identity="a", path="a/2.jpg", bytes=5)
    assert FolderSource(root).read(listing.faces[2]) == b"three"
    assert listing.counts == {}


def test_B21_names_that_differ_in_case_only_stay_apart(root):
    put(root / "a" / "A.jpg", b"upper")
    put(root / "a" / "a.jpg", b"lower")
    put(root / "A" / "a.jpg", b"other")
    listing = FolderSource(root).listing()
    data = {face.path: FolderSource(root).read(face) for face in listing.faces}
    assert (data["a/A.jpg"], data["a/a.jpg"], data["A/a.jpg"]) == (b"upper", b"lower", b"other")
    assert listing.images_per_identity == {"a": 3, "A": 1, "b": 1}


@pytest.mark.parametrize("name", NAMES)
def test_B22_B23_B24_any_name_is_listed_and_read_and_fits_in_one_line_of_json(tmp_path, name):
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    Path(os.fsdecode(os.path.join(folder, name))).write_bytes(name)
    (face,) = FolderSource(tmp_path).listing().faces
    assert FolderSource(tmp_path).read(face) == name
    assert unescaped(face.identity) == name
    assert face.identity.isprintable()
    assert json.loads(json.dumps(face.path, ensure_ascii=False).encode()) == face.path


def test_B24_escaping_is_reversible_and_keeps_names_apart():
    names = [*NAMES, *(bytes([value]) for value in range(1, 256)), b"%0A", b"\n", b"%25"]
    assert [unescaped(escaped(name)) for name in names] == names
    assert len({escaped(name) for name in names}) == len(set(names))


def test_B25_hidden_and_system_files_are_ignored_and_counted(root):
    for name in (".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini"):
        put(root / "a" / name)
    put(root / "__MACOSX" / "a" / "._1.jpg")
    put(root / "list.txt")
    listing = FolderSource(root).listing()
    assert len(listing.faces) == 2
    assert listing.counts == {Outcome.IGNORED: 6}


def test_B26_symbolic_links_are_counted_never_followed(root):
    outside = put(root.parent / f"{root.name}-outside" / "secret.jpg")
    (root / "a" / "file.jpg").symlink_to(root / "b" / "1.jpg")
    (root / "a" / "outside.jpg").symlink_to(outside)
    (root / "a" / "dangling.jpg").symlink_to("nowhere")
    (root / "a" / "parent").symlink_to(root)
    (root / "loop").symlink_to(root)
    listing = FolderSource(root).listing()
    assert [face.path for face in listing.faces] == ["a/2.jpg", "b/1.jpg"]
    assert listing.counts == {Outcome.SYMLINK: 5}


def test_B27_fifos_and_sockets_do_not_block(root):
    os.mkfifo(root / "a" / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "a" / "s"))
        assert FolderSource(root).listing().counts == {Outcome.NOT_REGULAR: 2}


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may read everything, so step down for the test."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.usefixtures("unprivileged")
def test_B28_unreadable_files_get_their_outcome_and_the_others_are_read(open_folder):
    user = os.geteuid()
    os.seteuid(os.getuid())
    put(open_folder / "a" / "1.jpg")
    put(open_folder / "a" / "2.jpg").chmod(0)
    put(open_folder / "b" / "1.jpg").parent.chmod(0)
    os.seteuid(user)
    listing = FolderSource(open_folder).listing()
    assert listing.counts == {Outcome.UNREADABLE: 1}
    readable, locked = listing.faces
    assert FolderSource(open_folder).read(readable) == b"data"
    with pytest.raises(UnreadableFaceError) as caught:
        FolderSource(open_folder).read(locked)
    assert caught.value.outcome == Outcome.UNREADABLE
    os.seteuid(os.getuid())
    (open_folder / "b").chmod(0o755)


def vanish(path: Path) -> None:
    path.unlink()


def vanish_with_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def grow(path: Path) -> None:
    path.write_bytes(b"longer than before")


def shrink(path: Path) -> None:
    path.write_bytes(b"")


def become_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def folder_becomes_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (vanish, Outcome.CHANGED),
        (vanish_with_folder, Outcome.CHANGED),
        (grow, Outcome.CHANGED),
        (shrink, Outcome.CHANGED),
        (become_link, Outcome.SYMLINK),
        (folder_becomes_link, Outcome.CHANGED),
        (become_fifo, Outcome.NOT_REGULAR),
        (become_folder, Outcome.NOT_REGULAR),
    ],
)
def test_B29_a_file_that_changes_after_listing_ends_in_an_outcome(root, change, outcome):
    face = FolderSource(root).listing().faces[1]
    change(root / face.path)
    with pytest.raises(UnreadableFaceError) as caught:
        FolderSource(root).read(face)
    assert caught.value.outcome == outcome
    assert "\n" not in str(caught.value)


def test_B30_empty_identities_are_reported_and_images_per_identity_counted(root):
    (root / "empty").mkdir()
    put(root / "hidden only" / ".x")
    put(root / "a" / "3.jpg")
    listing = FolderSource(root).listing()
    assert listing.without_faces == ("empty", "hidden only")
    assert listing.images_per_identity == {"a": 2, "b": 1}


@pytest.mark.parametrize("files", [[], ["image.jpg"], [".hidden/1.jpg"], ["a/.hidden"]])
def test_B30_B31_a_folder_without_faces_is_refused(tmp_path, files):
    for name in files:
        put(tmp_path / name)
    with pytest.raises(DataError, match=r"no faces found .*expected ROOT/<identity>/<image>$"):
        FolderSource(tmp_path).listing()


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_root_that_is_not_a_folder_is_refused(tmp_path, name):
    put(tmp_path / "file")
    with pytest.raises(DataError, match="not a folder"):
        FolderSource(tmp_path / name).listing()


def test_folders_inside_an_identity_are_refused_not_ignored(root):
    put(root / "a" / "more" / "3.jpg")
    with pytest.raises(DataError, match="a/more is a folder inside an identity"):
        FolderSource(root).listing()


def test_skipped_entries_are_named(root):
    (root / "a" / "link.jpg").symlink_to("2.jpg")
    put(root / "list.txt")
    skipped = FolderSource(root).listing().skipped
    assert [(skip.path, skip.outcome) for skip in skipped] == [
        ("a/link.jpg", Outcome.SYMLINK),
        ("list.txt", Outcome.IGNORED),
    ]


def test_reading_in_any_order_opens_the_right_folder(root):
    source = FolderSource(root)
    listed = source.listing().faces
    assert [source.read(face) for face in (*listed, *reversed(listed))] == [b"three", b"one", b"one", b"three"]


def test_counts_add_up(root):
    (root / "a" / "link.jpg").symlink_to("2.jpg")
    put(root / "a" / ".x")
    os.mkfifo(root / "b" / "fifo")
    listing = FolderSource(root).listing()
    entries = sum(len(os.listdir(root / identity)) for identity in ("a", "b"))
    assert len(listing.faces) + len(listing.skipped) == entries
