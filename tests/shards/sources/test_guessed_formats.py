"""What a source is, is told by all of it: what can be read in two ways is refused, and nothing is missed."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.images.faces import Listing
from shards.sources.formats import Format, FormatError
from shards.sources.sources import open_source

from .test_archive_source import tarred, zipped
from .test_folder_source import put
from .test_recordio import RecordWriter

PEOPLE = {f"p{person}/{number:03d}.jpg": b"%d-%d" % (person, number) for person in range(6) for number in range(3)}


def listed(path: Path, *, form: Format = "auto") -> Listing:
    return open_source(path, form=form).listing()


def labels(value: dict[str, object], *, names: list[str] | None = None) -> dict[str, bytes]:
    return {name.replace(".jpg", ".json"): json.dumps(value).encode() for name in names or list(PEOPLE)}


def refusal(path: Path) -> FormatError:
    with pytest.raises(FormatError) as caught:
        listed(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_one_label_in_a_tar_of_identity_folders_is_refused_with_both_readings(tmp_path):
    path = tarred(tmp_path / "a.tar", PEOPLE | labels({"label": 1}, names=["p0/000.jpg"]))
    error = refusal(path)
    assert "as 6 identity folders with 18 images, or as WebDataset samples" in str(error)
    assert "give 1 of the images 1 identities" in str(error)
    assert error.formats == ("archives", "webdataset")
    as_tree = listed(path, form="archives")
    assert (len(as_tree.faces), as_tree.counts) == (18, {"ignored": 1})
    as_samples = listed(path, form="webdataset")
    assert (len(as_samples.faces), as_samples.counts) == (1, {"no_identity": 17})


@pytest.mark.parametrize("value", [{"label": 0}, {"identity": "face", "age": 3}])
def test_equal_labels_beside_the_images_of_six_people_do_not_make_them_one(tmp_path, value):
    path = tarred(tmp_path / "a.tar", PEOPLE | labels(value))
    assert "give 18 of the images 1 identities" in str(refusal(path))
    assert len(listed(path, form="archives").images_per_identity) == 6


def test_labels_that_say_what_the_folders_say_are_read_as_before(tmp_path):
    own = {name.replace(".jpg", ".cls"): name[1:2].encode() for name in PEOPLE}
    listing = listed(tarred(tmp_path / "a.tar", PEOPLE | own))
    assert listing.images_per_identity == {str(person): 3 for person in range(6)}


def test_records_without_an_identity_leave_a_tar_of_folders_what_it_is(tmp_path):
    listing = listed(tarred(tmp_path / "a.tar", PEOPLE | labels({"age": 3})))
    assert set(listing.images_per_identity) == {f"p{person}" for person in range(6)}


@pytest.mark.parametrize("first", ["a.tar", "b.tar"])
def test_all_tars_of_a_set_are_decided_together(tmp_path, first):
    """One tar of samples whose labels are missing is not read as a tree beside the others."""
    second = "b.tar" if first == "a.tar" else "a.tar"
    samples = {f"{number}.jpg": b"%d" % number for number in range(4)}
    tarred(tmp_path / first, samples | {f"{number}.cls": b"%d" % number for number in range(4)})
    tarred(tmp_path / second, samples)
    listing = listed(tmp_path)
    assert (len(listing.faces), listing.counts) == (4, {"no_identity": 4})


def test_one_tar_per_person_and_one_label_is_refused(tmp_path):
    for person in range(3):
        own = {name: data for name, data in PEOPLE.items() if name.startswith(f"p{person}/")}
        tarred(tmp_path / f"p{person}.tar", own | (labels({"label": 9}, names=list(own)) if person == 1 else {}))
    assert refusal(tmp_path).formats == ("archives", "webdataset")


@pytest.mark.parametrize(
    "name", ["list.csv.gz", "train.idx.gz", "a.tar.md5", "a.tar.gz.sha256", "notes.001", "x.jpg.tmp"]
)
def test_what_only_looks_like_an_archive_is_counted(tmp_path, name):
    put(tmp_path / "anna" / "1.jpg")
    put(tmp_path / name)
    assert listed(tmp_path).counts == {"ignored": 1}


@pytest.mark.parametrize(
    "name",
    [
        *("b.tar.gz", "b.tgz", "b.TAR.BZ2", "b.tar.part", "b.zip.001", "b.rar", "b.7z", "b.tfrecord"),
        *("b.gz", "b.tar.gz.part1", "b.tar.filepart", "b.tar.aria2", "b.cab"),
    ],
)
@pytest.mark.parametrize("kind", ["archives", "folder", "recordio"])
def test_an_archive_that_is_not_read_is_refused_beside_every_kind_of_source(tmp_path, name, kind):
    if kind == "archives":
        tarred(tmp_path / "a.tar", PEOPLE)
    elif kind == "folder":
        put(tmp_path / "anna" / "1.jpg")
    else:
        writer = RecordWriter(tmp_path)
        writer.add(1, 3.0, b"image")
        writer.close()
    put(tmp_path / name)
    error = refusal(tmp_path)
    assert f"{name} is an archive that is not read; unpack it" in str(error)
    (form,) = error.formats
    skipped = {skip.path: (skip.outcome.value, skip.detail) for skip in listed(tmp_path, form=form).skipped}
    assert skipped[name] == ("ignored", "an archive that is not read")


def test_an_archive_inside_an_identity_folder_is_refused(tmp_path):
    put(tmp_path / "anna" / "1.jpg")
    put(tmp_path / "anna" / "more.zip")
    assert "anna/more.zip is an archive" in str(refusal(tmp_path))
    assert listed(tmp_path, form="folder").counts == {"ignored": 1}


def test_an_archive_inside_an_archive_is_refused(tmp_path):
    for path in (tarred(tmp_path / "a.tar", PEOPLE | {"b.tar": b"x"}), zipped(tmp_path / "a.zip", {"x.zip": b""})):
        with pytest.raises(DataError, match="an archive inside the archive, which is not read"):
            listed(path)


def test_tars_beside_folders_of_images_are_refused_and_either_can_be_stated(tmp_path):
    tarred(tmp_path / "a.tar", PEOPLE)
    put(tmp_path / "anna" / "1.jpg")
    assert refusal(tmp_path).formats == ("folder", "archives")
    assert {face.identity for face in listed(tmp_path, form="folder").faces} == {"anna"}
    archives = listed(tmp_path, form="archives")
    assert (len(archives.faces), archives.counts) == (18, {"ignored": 1})


def test_a_linked_tar_is_refused_beside_folders_too(tmp_path):
    put(tmp_path / "faces" / "anna" / "1.jpg")
    (tmp_path / "faces" / "more.tar").symlink_to(tarred(tmp_path / "a.tar", PEOPLE))
    assert "more.tar is a link, and links are not followed" in str(refusal(tmp_path / "faces"))


def test_every_entry_beside_archives_has_an_outcome(tmp_path):
    tarred(tmp_path / "a.tar", PEOPLE)
    for name in ("README", "a.tar.idx", "a.tar.md5", "index.json", ".DS_Store", "Thumbs.db", "loose.jpg"):
        put(tmp_path / name)
    put(tmp_path / "@eaDir" / "a.tar" / "x")
    (tmp_path / "link").symlink_to("README")
    listing = listed(tmp_path)
    assert len(listing.faces) == 18
    found = {skip.path: skip.outcome.value for skip in listing.skipped}
    others = ("README", "a.tar.idx", "a.tar.md5", "index.json", ".DS_Store", "Thumbs.db", "@eaDir")
    assert found == dict.fromkeys(others, "ignored") | {"loose.jpg": "no_identity", "link": "symlink"}
    assert all(skip.detail or skip.outcome == "symlink" for skip in listing.skipped)


def test_every_entry_beside_records_has_an_outcome(tmp_path):
    writer = RecordWriter(tmp_path)
    writer.add(1, 3.0, b"image")
    writer.close()
    for name in ("property", "lfw.bin"):
        put(tmp_path / name)
    put(tmp_path / "imgs" / "1.jpg")
    assert {skip.path: skip.outcome.value for skip in listed(tmp_path).skipped} == dict.fromkeys(
        ("lfw.bin", "imgs"), "ignored"
    )


@pytest.mark.parametrize(
    "name", ["_tmp", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"]
)
def test_folders_of_file_servers_and_systems_are_no_identities(tmp_path, name):
    put(tmp_path / "anna" / "1.jpg")
    put(tmp_path / name / "1.jpg")
    packed = tarred(tmp_path.parent / f"{tmp_path.name}.tar", {"anna/1.jpg": b"x", f"{name}/1.jpg": b"x"})
    for listing in (listed(tmp_path), listed(packed)):
        assert (set(listing.images_per_identity), listing.counts) == ({"anna"}, {"ignored": 1})


def test_suffixes_in_upper_case_are_read(tmp_path):
    assert len(listed(tarred(tmp_path / "A.TAR", PEOPLE)).faces) == 18
    zipped(tmp_path / "B.Zip", PEOPLE)
    listing = listed(tmp_path)
    assert Counter(face.path.partition("/")[0] for face in listing.faces) == {"A.TAR": 18, "B.Zip": 18}


@pytest.mark.parametrize("form", ["archives", "webdataset", "recordio"])
def test_a_stated_format_that_is_not_there_is_refused(tmp_path, form):
    put(tmp_path / "anna" / "1.jpg")
    with pytest.raises(DataError, match=r"holds (no \.zip or \.tar|0 \.rec) file"):
        listed(tmp_path, form=form)
    put(tmp_path / "x.bin")
    with pytest.raises(DataError, match="a file of another kind; expected a "):
        listed(tmp_path / "x.bin", form=form)


def test_a_loose_image_in_a_tar_of_folders_has_no_identity(tmp_path):
    path = tarred(tmp_path / "a.tar", PEOPLE | {"loose.jpg": b"x", "README": b"x"}, form=tarfile.GNU_FORMAT)
    assert {skip.path: skip.outcome.value for skip in listed(path).skipped} == {
        "a.tar/loose.jpg": "no_identity",
        "a.tar/README": "ignored",
    }


def test_what_a_mac_puts_beside_archives_and_records_is_no_second_one(tmp_path):
    put(tmp_path / "tars" / "._a.tar")
    tarred(tmp_path / "tars" / "a.tar", PEOPLE)
    writer = RecordWriter(tmp_path / "rec")
    writer.add(1, 3.0, b"image")
    writer.close()
    put(tmp_path / "rec" / "._train.rec")
    for folder, images in (("tars", 18), ("rec", 1)):
        listing = listed(tmp_path / folder)
        assert (len(listing.faces), listing.counts) == (images, {"ignored": 1})
