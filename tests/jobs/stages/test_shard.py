"""The shard stage: every source, every input with one fate, and only what was planned."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import webdataset
from PIL import Image

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.methods.cemiface.identities.plan import listed_files
from jobs.stages.fingerprint.also import AlsoSet, listed_blocks
from jobs.stages.shard.left_out import left_out
from jobs.stages.shard.losses import warn_of_losses
from jobs.stages.shard.plan import STAGE as SHARD
from shards.errors import DataError
from shards.exports.check import check
from shards.images.jpeg import decode_rgb
from shards.images.source_mark import SourceMark, marked
from shards.sources.sources import open_source
from shards.tars.manifest import read_manifest
from shards.tars.reader import read_tar
from shards.tars.shard_set import ShardSet
from slurm.files import sha256_of

from ...shards import bad_images
from ...shards.pictures import encoded, jpeg, picture, png_with_size, with_exif, write_tar
from ...shards.sources.test_archive_source import tarred, zipped
from ...shards.sources.test_recordio import RecordWriter
from ...shards.sources.test_webdataset_samples import repeated
from .sharding import planned, sharded, work

PEOPLE = {
    f"person-{person}/{photo}.jpg": jpeg(10 * person + photo, size=32) for person in range(3) for photo in range(4)
}


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return put(tmp_path / "faces", PEOPLE)


def as_records(root: Path) -> Path:
    writer = RecordWriter(root)
    writer.add(0, [13.0, 16.0])
    for key, (name, data) in enumerate(PEOPLE.items(), 1):
        writer.add(key, float(name[len("person-")]), data)
    return writer.close().parent


def as_webdataset(root: Path) -> Path:
    samples = [(f"{number:03d}", name.split("/")[0]) for number, name in enumerate(PEOPLE)]
    return write_tar(put(root, {"x/y": b""}) / "set.tar", samples)


SOURCES: dict[str, Callable[[Path], Path]] = {
    "folder": lambda root: put(root, PEOPLE),
    "zip": lambda root: zipped(put(root, {"x/y": b""}) / "faces.zip", PEOPLE),
    "tar": lambda root: tarred(put(root, {"x/y": b""}) / "faces.tar", PEOPLE),
    "recordio": as_records,
    "webdataset": as_webdataset,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_ends_in_tars_that_webdataset_reads_alike(tmp_path: Path, kind: str) -> None:
    folder, summary = sharded(tmp_path, SOURCES[kind](tmp_path / "source"), shard_images=5)
    assert summary["counts"] == {"kept": 12}
    assert (summary["images_in"], summary["images_out"], summary["units"]) == (12, 12, 3)
    tars = sorted(folder.glob("*.tar"))
    ours = [(sample.key, sample.jpg, sample.record) for tar in tars for sample in read_tar(tar)]
    theirs = webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False)
    assert [(s["__key__"], s["jpg"], json.loads(s["json"])) for s in theirs] == ours
    if kind != "webdataset":
        assert sorted(image for _, image, _ in ours) == sorted(PEOPLE.values())
    assert len({record["identity"] for _, _, record in ours}) == 3
    assert all(set(record) == {"identity", "source", "index", "outcome", "origin"} for _, _, record in ours)


def test_the_set_has_a_private_manifest_that_adds_up_and_indexes_that_fit(tmp_path: Path, faces: Path) -> None:
    folder, _ = sharded(tmp_path, faces, shard_images=5)
    manifest = read_manifest(folder / "manifest.json")
    assert manifest.private
    assert (manifest.totals.samples, manifest.totals.shards) == (12, 3)
    assert [line for line in check(folder, manifest) if ".tar" in line] == []
    tars = sorted(folder.glob("*.tar"))
    indexed = ShardSet(tars)
    for tar in tars:
        tar.with_suffix(".index.npz").unlink()
    scanned = ShardSet(tars)
    assert (indexed.keys, indexed.classes, indexed.identities) == (scanned.keys, scanned.classes, scanned.identities)
    assert [indexed.jpeg(row) for row in range(12)] == [scanned.jpeg(row) for row in range(12)]
    assert list(indexed.records()) == list(scanned.records())


def corpus() -> dict[str, bytes]:
    """A file for each row of the bad-input matrix that a file can show."""
    whole = jpeg()
    return {
        "B01": whole[: len(whole) // 2],
        "B02": whole[:-2],
        "B03": bad_images.damaged_inside(whole),
        "B04": b"",
        "B05": b"<!DOCTYPE html>",
        "B06": bad_images.png_with_wrong_crc(),
        "B07": encoded(picture().convert("L"), "JPEG"),
        "B08": encoded(picture().convert("CMYK"), "JPEG"),
        "B09": bad_images.pgm16(bad_images.gray16()),
        "B10": bad_images.half_transparent(),
        "B11": encoded(picture().convert("P"), "PNG"),
        "B12": bad_images.animated("WEBP"),
        "B13": encoded(picture(), "TIFF"),
        "B14": bad_images.turned(6)[0],
        "B14b": with_exif(whole, b"II*\0"),
        "B15": png_with_size(9500, 9500),
        "B16": encoded(picture(size=(1, 1)), "PNG"),
        "B16b": encoded(picture(size=(100, 2000)), "PNG"),
        "B17": encoded(picture(size=(92, 112)), "PNG"),
        "B19": encoded(picture().convert("L").point(lambda level: 0), "PNG"),
        "B20": whole,
        "B21": whole,
        "b21": whole,
        "B22.with.dots": whole,
        "B23\n\U0001f600": whole,
        ".B25": whole,
    }


EXPECTED = {
    "kept": 6,
    "converted": 6,
    "truncated": 2,
    "corrupt": 2,
    "empty": 1,
    "not_an_image": 1,
    "animated": 1,
    "format": 1,
    "too_large": 1,
    "too_small": 1,
    "aspect": 1,
    "wrong_size": 1,
    "blank": 1,
    "ignored": 1,
    "symlink": 1,
    "not_regular": 1,
}


def test_B01_to_B27_counts_add_up_to_the_inputs_and_every_reason_is_findable(tmp_path: Path) -> None:
    root = put(tmp_path / "faces", {f"anna/{name}": data for name, data in corpus().items()})
    (root / "anna" / "B24-\udcff").write_bytes(corpus()["B01"])
    (root / "anna" / "B26").symlink_to("B20")
    os.mkfifo(root / "anna" / "B27")
    folder, summary = sharded(tmp_path, root, image_size=112, max_bad_fraction=1)
    assert summary["counts"] == EXPECTED | {"truncated": 3}
    assert sum(summary["counts"].values()) == summary["images_in"] == len(os.listdir(root / "anna"))
    assert summary["images_out"] == 12
    told = [sample.record["source"] for tar in folder.glob("*.tar") for sample in read_tar(tar)]
    told += [line["source"] for line in summary["figures"]["rejected"]]
    told += [line.split("\t")[0] for line in (folder / "lists" / "skipped.tsv").read_text().splitlines()[1:]]
    assert len(told) == len(set(told)) == summary["images_in"]
    assert "anna/B23%0A\U0001f600" in told
    assert "anna/B24-%FF" in told


def test_too_many_bad_images_fail_the_shard_and_leave_no_tar(tmp_path: Path, faces: Path) -> None:
    put(faces, {"person-0/broken.jpg": b"no"})
    run = planned(tmp_path, faces, max_bad_fraction=0.05)
    with pytest.raises(
        DataError, match=r"real-00000\.tar: 1 of 13 images are not usable.*broken\.jpg.*max_bad_fraction"
    ):
        work(run)
    assert not list(run.stage_folder("shard").root.glob("*real-00000.tar*"))
    _, summary = sharded(tmp_path, faces, max_bad_fraction=0.1)
    assert summary["counts"] == {"kept": 12, "not_an_image": 1}


def test_B29_ranks_do_what_was_planned_whatever_the_folder_holds_by_then(tmp_path: Path, faces: Path) -> None:
    run = planned(tmp_path, faces, max_bad_fraction=0.5)
    put(faces, {"person-0/new.jpg": jpeg(99, size=32), "new person/1.jpg": b"", "person-1/0.jpg": b"another size"})
    (faces / "person-2" / "3.jpg").unlink()
    summary = work(run)
    assert summary["counts"] == {"kept": 10, "changed": 2}
    assert [line["source"] for line in summary["figures"]["rejected"]] == ["person-1/0.jpg", "person-2/3.jpg"]


def test_B29_with_hashes_a_change_of_equal_size_counts_as_changed(tmp_path: Path, faces: Path) -> None:
    run = planned(tmp_path, faces, max_bad_fraction=0.5, hash="sha256")
    file = faces / "person-1" / "0.jpg"
    file.write_bytes(file.read_bytes()[:-2] + b"\0\0")
    assert work(run)["counts"] == {"kept": 11, "changed": 1}


def test_a_changed_source_makes_a_finished_stage_stale(tmp_path: Path, faces: Path) -> None:
    run = planned(tmp_path, faces, shard_images=5)
    work(run)
    again = load_run(tmp_path / "sharding.yaml")
    assert again.ledger.why_not_finished(again.stages["shard"]) is None
    put(faces, {"person-2/9.jpg": jpeg(99, size=32)})
    again = load_run(tmp_path / "sharding.yaml")
    states = again.ledger.unit_states(again.stages["shard"])
    assert [state is None for state in states] == [True, True, False]


def test_a_list_that_was_tampered_with_is_refused(tmp_path: Path, faces: Path) -> None:
    run = planned(tmp_path, faces)
    path = run.stage_folder("shard").root / "lists" / "real-00000.tsv"
    path.write_text(path.read_text().replace("person-0/0.jpg", "../../secret"))
    with pytest.raises(DataError, match="is not the list that was planned"):
        work(run)


def test_B20_equal_files_are_counted_and_only_the_first_is_taken_if_asked_for(tmp_path: Path, faces: Path) -> None:
    put(faces, {"person-2/copy.jpg": PEOPLE["person-0/0.jpg"]})
    _, summary = sharded(tmp_path, faces, hash="sha256")
    assert summary["counts"] == {"kept": 13}
    assert summary["figures"]["equal_images_kept"] == 1
    (tmp_path / "first").mkdir()
    folder, summary = sharded(tmp_path / "first", faces, hash="sha256", duplicates="first")
    assert summary["counts"] == {"kept": 12, "duplicate": 1}
    assert (folder / "lists" / "skipped.tsv").read_text().splitlines()[1:] == [
        "person-2/copy.jpg\tduplicate\tequal to person-0/0.jpg"
    ]


def test_B20_equal_pixels_are_counted_and_only_the_first_is_taken_if_asked_for(tmp_path: Path, faces: Path) -> None:
    whole = Image.fromarray(decode_rgb(PEOPLE["person-0/0.jpg"]))
    put(faces, {"person-2/copy.png": encoded(whole, "PNG"), "person-2/again.ppm": encoded(whole, "PPM")})
    (tmp_path / "bytes").mkdir()
    _, summary = sharded(tmp_path / "bytes", faces, hash="sha256")
    assert summary["figures"]["equal_images_kept"] == 0
    _, summary = sharded(tmp_path, faces, hash="pixels")
    assert summary["counts"] == {"kept": 12, "converted": 2}
    assert summary["figures"]["equal_images_kept"] == 2
    (tmp_path / "first").mkdir()
    _, summary = sharded(tmp_path / "first", faces, hash="pixels", duplicates="first")
    assert summary["counts"] == {"kept": 12, "duplicate": 2}
    assert summary["figures"]["equal_images_kept"] == 0


def test_a_finished_stage_does_not_need_its_source_any_more(tmp_path: Path, faces: Path) -> None:
    work(planned(tmp_path, faces, shard_images=5))
    before = dict(tree(tmp_path / "runs" / "sharding" / "shard"))
    faces.rename(tmp_path / "elsewhere")
    for unmounted in (False, True):
        if unmounted:
            faces.mkdir()
        again = load_run(tmp_path / "sharding.yaml")
        assert again.ledger.why_not_finished(again.stages["shard"]) is None
        assert len(again.ledger.plan("shard").units) == 3
    assert dict(tree(tmp_path / "runs" / "sharding" / "shard")) == before


def test_what_is_missing_of_a_finished_stage_needs_the_source_again(tmp_path: Path, faces: Path) -> None:
    folder, _ = sharded(tmp_path, faces, shard_images=5)
    before = dict(tree(folder))
    (folder / "real-00001.tar").unlink()
    away = faces.rename(tmp_path / "elsewhere")
    again = load_run(tmp_path / "sharding.yaml")
    with pytest.raises(DataError, match=r"faces: no such file or folder; expected a folder of identity folders"):
        work(again)
    away.rename(faces)
    work(load_run(tmp_path / "sharding.yaml"))
    assert dict(tree(folder)) == before


def test_without_its_source_a_stage_is_not_planned_again(tmp_path: Path, faces: Path) -> None:
    sharded(tmp_path, faces)
    faces.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"shard\.faces: got .*faces, no such file or folder"):
        planned(tmp_path, faces, shard_images=5)


def test_images_that_say_that_they_are_synthetic_are_taken_and_reported(tmp_path: Path, faces: Path) -> None:
    mark = SourceMark(version="0.1.0", seed=3, key="000012-003")
    put(faces, {"person-2/made.jpg": marked(jpeg(99, size=32), mark), "person-2/c.jpg": jpeg(98, size=32)})
    folder, summary = sharded(tmp_path, faces, shard_images=5)
    assert summary["counts"] == {"kept": 14}
    assert summary["figures"]["say_synthetic"] == {"images": 1, "examples": ["person-2/made.jpg"]}
    (line,) = left_out(load_run(tmp_path / "sharding.yaml"))
    told = (
        "shard: 1 of 14 real faces say that they are synthetic (first: person-2/made.jpg); they are used all the same"
    )
    assert line == f"{told}; details: {folder / 'summary.json'}"


def test_dropping_equal_files_without_hashes_is_refused(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(ConfigError, match=r"shard\.duplicates: got first with hash: none"):
        planned(tmp_path, faces, duplicates="first")


def test_tars_also_end_at_the_configured_size(tmp_path: Path, faces: Path) -> None:
    put(faces, {f"person-0/large-{n}.png": encoded(picture(n, size=(700, 700)), "PPM") for n in range(3)})
    run = planned(tmp_path, faces, shard_bytes=3_000_000, resize="center")
    assert [(unit.start, unit.stop) for unit in run.ledger.units(SHARD)] == [(0, 6), (6, 15)]


def tree(folder: Path) -> Iterator[tuple[str, str]]:
    return ((path.name, sha256_of(path)) for path in sorted(folder.glob("*.*")) if path.name not in NOT_REPRODUCED)


NOT_REPRODUCED = {"summary.json", "plan.json"}


def test_the_same_source_gives_the_same_bytes(tmp_path: Path, faces: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        folder, _ = sharded(tmp_path / name, faces, shard_images=5)
        hashes.append(list(tree(folder)))
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 7


def test_B30_identities_without_images_or_with_one_are_counted(tmp_path: Path, faces: Path) -> None:
    put(faces, {"single/0.jpg": jpeg(50, size=32)})
    (faces / "nobody").mkdir()
    _, summary = sharded(tmp_path, faces)
    figures: dict[str, Any] = summary["figures"]
    assert (figures["identities_without_faces"], figures["identities_with_one_image"]) == (1, 1)
    assert (figures["identities"]["real"], figures["identities"]["held-out"]) == (4, 0)


@pytest.mark.parametrize("header", ["", "identity\tpath\n"])
def test_a_list_selects_the_images(tmp_path: Path, faces: Path, header: str) -> None:
    names = ["person-1/0.jpg", "person-2/1.jpg"]
    lines = "".join(f"{name.partition('/')[0]}\tset/{name}\n" if header else f"{name}\n" for name in names)
    (tmp_path / "only.tsv").write_text(header + lines)
    folder, summary = sharded(tmp_path, faces, only=str(tmp_path / "only.tsv"))
    tars = ShardSet(sorted(folder.glob("real-*.tar")))
    assert [record["source"] for record in tars.records()] == names
    assert summary["counts"]["not_listed"] == len(PEOPLE) - 2
    assert summary["images_in"] == len(PEOPLE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("person-1/0.jpg\nperson-1/77.jpg\n", r"1 of 2 images are not in the source \(person-1/77.jpg\)"),
        ("person-1/0.jpg\n0.jpg\n", "line 2: got '0.jpg'; expected a path that ends in person/file"),
        ("path\n", "lists no image"),
    ],
)
def test_a_list_that_does_not_fit_the_source_is_refused(tmp_path: Path, faces: Path, text: str, told: str) -> None:
    (tmp_path / "only.tsv").write_text(text)
    with pytest.raises(DataError, match=told):
        planned(tmp_path, faces, only=str(tmp_path / "only.tsv"))


def test_another_list_makes_a_finished_stage_stale(tmp_path: Path, faces: Path) -> None:
    only = tmp_path / "only.tsv"
    only.write_text("person-1/0.jpg\nperson-2/1.jpg\n")
    work(planned(tmp_path, faces, only=str(only)))
    again = load_run(tmp_path / "sharding.yaml")
    assert again.ledger.why_not_finished(again.stages["shard"]) is None
    only.write_text("person-1/0.jpg\nperson-2/0.jpg\n")
    again = load_run(tmp_path / "sharding.yaml")
    assert again.ledger.why_not_finished(again.stages["shard"]) is not None


def lossy(root: Path, *, lost: int, images: int = 200) -> Path:
    """A tar of samples, of which `lost` have no label."""
    members: dict[str, bytes] = {}
    for number in range(images):
        members[f"{number:03d}.jpg"] = PEOPLE["person-0/0.jpg"]
        if number >= lost:
            members[f"{number:03d}.cls"] = b"%d" % (number % 3)
    return tarred(root / "set.tar", members)


@pytest.mark.parametrize(("lost", "refused"), [(2, False), (3, True)])
def test_images_lost_while_listing_count_against_the_fraction_before_any_work(
    tmp_path: Path, lost: int, refused: bool
) -> None:
    source = lossy(tmp_path, lost=lost)
    if not refused:
        assert planned(tmp_path, source).ledger.plan("shard").units
        return
    with pytest.raises(DataError) as caught:
        planned(tmp_path, source)
    assert str(caught.value) == (
        f"shard.faces: 3 of 200 images in {source} would be left out: 3 no_identity; the first is set.tar/000.jpg "
        "(no .cls or .json with it); allowed: a fraction of 0.01; fix them or raise shard.max_bad_fraction"
    )
    assert planned(tmp_path, source, max_bad_fraction=0.02).ledger.plan("shard").units


def test_litter_the_users_list_and_removed_duplicates_are_no_losses(tmp_path: Path, faces: Path) -> None:
    put(faces, {f"person-{person}/{name}": b"x" for person in range(3) for name in (".DS_Store", "Thumbs.db")})
    put(faces, {"README.md": b"about", "person-2/copy.jpg": PEOPLE["person-0/0.jpg"]})
    _, summary = sharded(tmp_path, faces, hash="sha256", duplicates="first")
    assert summary["counts"] == {"kept": 12, "duplicate": 1, "ignored": 7}
    (tmp_path / "train.txt").write_text("person-0/0.jpg\nperson-1/0.jpg\n")
    (tmp_path / "only").mkdir()
    _, summary = sharded(tmp_path / "only", faces, only=str(tmp_path / "train.txt"))
    assert summary["counts"] == {"kept": 2, "not_listed": 11, "ignored": 7}


def test_a_plan_that_an_older_version_accepted_is_resumed_in_spite_of_its_losses(tmp_path: Path) -> None:
    source = lossy(tmp_path, lost=10)
    accepted = planned(tmp_path, source, max_bad_fraction=1)
    plan = accepted.stage_folder("shard").plan.read_bytes()
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="10 of 200 images"):
        planned(tmp_path / "other", source)
    again = planned(tmp_path, source)
    assert again.stage_folder("shard").plan.read_bytes() == plan


def test_a_source_with_two_readings_names_the_field_that_decides(tmp_path: Path) -> None:
    source = tarred(tmp_path / "faces.tar", PEOPLE | {"person-0/0.json": b'{"label": 3}'})
    with pytest.raises(DataError, match=r"^shard\.faces: .*or set shard\.format: archives or webdataset$"):
        planned(tmp_path, source)
    _, summary = sharded(tmp_path, source, format="archives")
    assert summary["counts"] == {"kept": 12, "ignored": 1}


def test_stating_the_format_leaves_finished_work_as_it_is(tmp_path: Path, faces: Path) -> None:
    folder, _ = sharded(tmp_path, faces)
    before = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    run = planned(tmp_path, faces, format="folder")
    assert run.ledger.why_not_finished(run.stages["shard"]) is None
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before


def test_the_refusal_of_a_bad_tar_is_written_for_people(tmp_path: Path, faces: Path) -> None:
    put(faces, {"person-0/broken.jpg": b"no"})
    with pytest.raises(DataError, match=r"\(first: person-0/broken\.jpg: not_an_image, ") as caught:
        work(planned(tmp_path, faces))
    assert "Outcome" not in str(caught.value)
    assert "{" not in str(caught.value)


def test_with_the_first_of_equals_a_member_that_a_tar_repeats_is_taken_once(tmp_path: Path) -> None:
    members = [(f"{number}.{kind}", data) for number in range(3) for kind, data in
               (("jpg", PEOPLE[f"person-0/{number}.jpg"]), ("cls", b"%d" % number))]  # fmt: skip
    source = repeated(tmp_path / "set.tar", [*members, *members[:2]])
    folder, summary = sharded(tmp_path, source, hash="sha256", duplicates="first")
    assert summary["counts"] == {"kept": 3, "duplicate": 1}
    samples = [sample for tar in folder.glob("*.tar") for sample in read_tar(tar)]
    assert len({sample.jpg for sample in samples}) == len(samples) == 3


def test_sources_without_a_limit_log_what_they_lose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listing = open_source(lossy(tmp_path, lost=10)).listing()
    warn_of_losses(listing, field="identities.faces", where="faces")
    assert caplog.messages == [
        "identities.faces: 10 of 200 images in faces would be left out: 10 no_identity; the first is set.tar/000.jpg "
        "(no .cls or .json with it)"
    ]


@pytest.mark.parametrize("source", ["files of the inquiry faces", "other sets of the audit"])
def test_stages_with_sources_of_their_own_log_it(tmp_path: Path, source: str, caplog: pytest.LogCaptureFixture) -> None:
    faces = lossy(tmp_path, lost=10)
    config = tmp_path / "own.yaml"
    config.write_text(
        f"name: own\nshard: {{faces: {faces}}}\ntrain-embedder: {{sets: [real]}}\nembed: {{}}\ntrain-diffusion: {{}}\n"
        f"identities: {{source: files, faces: {faces}}}\n"
    )
    run = load_run(config)
    if source == "files of the inquiry faces":
        listed_files(run)
    else:
        list(listed_blocks(run, AlsoSet(name="other", faces=str(faces))))
    assert "10 of 200 images in" in caplog.text
