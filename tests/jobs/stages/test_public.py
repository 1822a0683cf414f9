"""What is published is an allow-list: a word in every path, name and host of a run is nowhere in the published set."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from jobs.frame.experiment import load_run_folder
from jobs.frame.method import ImageRequest, identity_name
from jobs.frame.run import Run
from jobs.frame.stage_config import public_fields
from jobs.stages.publish.public_verdict import public_verdict
from jobs.stages.shared.gate.synthetic import require_publishable
from shards.images import source_mark
from shards.images.metadata import foreign_segment
from shards.images.source_mark import SourceMark
from shards.privacy.verdict import PUBLIC_FIELDS, PUBLIC_FIGURES, Verdict
from shards.tars.reader import read_tar
from shards.tars.records import private_field
from shards.tars.writer import TarWriter
from slurm.errors import RunError
from slurm.files import publishing

from ...shards.pictures import encoded, jpeg, picture, with_exif
from ..conftest import set_up
from ..one_rank import plan_stage, record_again, work_alone

WORD = "marmalade"
MARK = SourceMark(version="0.1.0", seed=3, key="000000-000")


def with_mark(number: int, **other: Any) -> bytes:
    return source_mark.marked(jpeg(number), replace(MARK, **other))


def _change_config(folder: Path) -> None:
    """Every text that a user may write, apart from those of the card, has the word."""
    path = folder / "config.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    root = Path(config["root"])
    for name in ("list.txt", "judge.pth", "denoiser.safetensors", "e_id.safetensors", "inception.pth"):
        (root / f"{WORD}-{name}").write_bytes(b"")
    config["name"], config["runs"] = f"run-{WORD}", str(folder.parent)
    config["embedder"] = {"weights": str(root / f"{WORD}-e_id.safetensors")}
    config["shard"] |= {"faces": str(root / f"{WORD}-faces"), "only": f"{WORD}-list.txt"}
    config["train-diffusion"] |= {"initial_weights": str(root / f"{WORD}-denoiser.safetensors")}
    config["identities"] |= {"attributes": f"{WORD}.tsv", "quotas": {f"{WORD}-group": 1.0}}
    config["train-recognition"] |= {"sets": ["synthetic", f"{WORD}-set"]}
    config["evaluate"] |= {"inception": f"{WORD}-inception.pth", "judge": {"weights": f"{WORD}-judge.pth"}}
    config["fingerprint"] |= {"judge": {"weights": str(root / f"{WORD}-judge.pth")}}
    config["report"] = {"title": WORD}
    path.write_text(yaml.safe_dump(config))


def _change_summaries(folder: Path) -> None:
    """Figures, file hashes and workers of all stages have the word."""
    for path in folder.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        summary["fingerprint"]["files"] = {"fingerprint.judge.weights": "ab" * 32, f"shard.{WORD}": "0" * 64}
        summary["figures"] |= {"judge": f"{WORD}-judge.pth", "host": f"{WORD}-host"}
        if path.parent.name == "evaluate":
            summary["figures"]["benchmarks"] = {WORD: {"synthetic": {"accuracy": 0.5}}}
        path.write_text(json.dumps(summary))
    for path in folder.glob("*/done/*.json"):
        path.write_text(path.read_text().replace(socket.gethostname(), f"{WORD}-host"))


def _change_verdict(run: Run) -> None:
    """The net, the real people, the benchmarks and a figure that no list knows have the word."""
    path = run.stage_folder("settle").output("verdict.json")
    verdict = json.loads(path.read_text())
    verdict["embedder"] = f"{WORD}-judge.pth"
    verdict["leaks"] = [{"key": "000009-000", "reason": "too_similar", "real": f"{WORD}/1.jpg", "cosine": 0.9}]
    counts = {"people": 3, "in_training": 1, "in_synthetic": 0}
    verdict["figures"]["overlap"] |= {f"benchmark-{WORD}": counts, "benchmark-lfw": counts}
    verdict["figures"] |= {"closest": [{"key": "000000-000", "real": WORD, "cosine": 0.1}], "new": {WORD: WORD}}
    path.write_text(json.dumps(verdict))
    record_again(run, "settle", "verdict.json")


@pytest.fixture
def marked(copied: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The finished run in a folder, with paths, names and a host that have the word."""
    monkeypatch.setattr(socket, "gethostname", lambda: f"{WORD}-host")
    monkeypatch.setenv("USER", WORD)
    folder = copied.folder.root.parent / f"run-{WORD}"
    shutil.move(copied.folder.root, folder)
    _change_summaries(folder)
    _change_config(folder)
    run = load_run_folder(folder)
    _change_verdict(run)
    return run


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all files; of images in tars and sheets also what their metadata says, unpacked."""
    for path in folder.rglob("*"):
        yield path.name, path.read_bytes()
        if path.suffix == ".tar":
            for sample in read_tar(path):
                yield sample.key, sample.jpg + json.dumps(sample.record).encode()
                with Image.open(io.BytesIO(sample.jpg)) as image:
                    yield sample.key, repr((image.info, dict(image.getexif()))).encode()


def test_no_byte_of_the_published_folder_has_the_word(marked: Run) -> None:
    shutil.rmtree(marked.stage_folder("publish").root)
    plan_stage(marked, "publish")
    work_alone(marked, "publish")
    published = marked.stage_folder("publish").output("tiny-set")
    names = {name for name, _ in _contents(published)}
    assert {"README.md", "audit.json", "croissant.json", "index.json", "manifest.json", "LICENSE.txt"} <= names
    found = [name for name, data in _contents(published) if WORD.encode() in data.lower() or WORD in name]
    assert found == []

    audit = json.loads((published / "audit.json").read_text())
    assert audit["embedder"] == f"a given recognition net, sha256 {'ab' * 16}"
    assert audit["counts"]["too_similar"] == 1
    assert {"held-out", "benchmark-lfw"} < audit["figures"]["overlap"].keys()
    card = (published / "README.md").read_text()
    assert audit["embedder"] in card
    assert "| shard.image_size | `16` |" in card
    assert "| unnamed set " in card


def test_the_nets_of_a_run_are_named_by_kind_and_hash(copied: Run) -> None:
    sha256 = copied.ledger.output_record("train-embedder", "recognition.safetensors").sha256
    audit = json.loads(copied.stage_folder("publish").output("tiny-set/audit.json").read_text())
    assert audit["embedder"] == f"E_id, trained in this run, sha256 {sha256[:32]}"
    assert "recognition.safetensors" not in copied.stage_folder("publish").output("tiny-set/README.md").read_text()


def test_the_lists_of_what_is_public_of_a_verdict_name_what_there_is(copied: Run) -> None:
    value = json.loads(copied.stage_folder("settle").output("verdict.json").read_text())
    public = public_verdict(copied, Verdict.from_record(value)).public_record()
    assert set(value) - set(PUBLIC_FIELDS) == {"leaks", "figures"}
    assert set(public) == {*PUBLIC_FIELDS, "figures"}
    assert set(value["figures"]) - set(PUBLIC_FIGURES) == {"closest"}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _texts(one)


def test_the_only_texts_among_public_settings_are_words_of_the_suite(marked: Run) -> None:
    found: set[str] = set()
    for stage in marked.chain:
        section = marked.config.section(stage.name)
        assert section is not None
        found |= set(_texts(public_fields(section)))
    assert {"never", "denoiser", "cosface", "ir_tiny"} <= found
    assert not [text for text in found if WORD in text or "/" in text or "." in text or " " in text]


RECORD = {
    "identity": "synthetic-000001",
    "index": 0,
    "origin": "synthetic",
    "asked": {"m": 0.5, "hat": "red"},
    "m": 0.5,
    "seed": 7,
    "measured_cosine": -0.1,
}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({}, None),
        ({"copy_of": "synthetic-000001", "attempt": 2}, None),
        ({"file": "/home/marmalade/1.jpg"}, "file"),
        ({"identity": "marmalade"}, "identity"),
        ({"copy_of": "marmalade"}, "copy_of"),
        ({"origin": "marmalade"}, "origin"),
        ({"asked": {"m": ["marmalade"]}}, "asked"),
        ({"asked": {"m": "/home/marmalade"}}, "asked"),
        ({"asked": {"m": "marmalade.jpg"}}, "asked"),
        ({"asked": {"Ann Marmalade": 1.0}}, "asked"),
        ({"asked": {"m": float("inf")}}, "asked"),
        ({"seed": int.from_bytes(b"marmalade", "big")}, "seed"),
        ({"/home/marmalade": 1}, "/home/marmalade"),
        ({"nested": {"path": "marmalade"}}, "nested"),
    ],
)
def test_records_hold_numbers_and_names_of_synthetic_identities(more: dict[str, Any], field: str | None) -> None:
    assert private_field(RECORD | more) == field


@pytest.mark.parametrize("key", ["marmalade", "000000-000/marmalade", "000000-000-marmalade", "1-1"])
def test_keys_of_published_images_are_numbers(key: str) -> None:
    require_publishable("x.tar", "000000-000", record=RECORD, jpeg=with_mark(0), seed=3)
    with pytest.raises(RunError, match=r"x\.tar: has an image"):
        require_publishable("x.tar", key, record=RECORD, jpeg=with_mark(0), seed=3)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (jpeg(0), "the image of 000000-000 does not say that it is synthetic"),
        (
            with_mark(0, seed=4),
            "is that of 000000-000 with seed 4, expected is 000000-000 with seed 3",
        ),
        (with_mark(0, key="000000-001"), "is that of 000000-001 with seed 3"),
        (source_mark.marked(with_mark(0), MARK), "has a segment 0xe1"),
    ],
    ids=["no mark", "of another set", "of another image", "two"],
)
def test_each_published_picture_has_its_own_mark_and_no_other(data: bytes, told: str) -> None:
    with pytest.raises(RunError, match=told):
        require_publishable("x.tar", "000000-000", record=RECORD, jpeg=data, seed=3)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (jpeg(0), None),
        (encoded(picture(0), "JPEG"), None),
        (encoded(picture(0), "JPEG", progressive=True), None),
        (with_exif(jpeg(0), b"marmalade"), "a segment 0xe1 of 17 bytes"),
        (encoded(picture(0), "JPEG", comment=b"marmalade"), "a segment 0xfe of 11 bytes"),
        (encoded(picture(0), "JPEG", icc_profile=b"marmalade"), "a segment 0xe2 of 25 bytes"),
        (jpeg(0) + b"marmalade", "9 bytes after its end"),
        (jpeg(0)[:-2], "no end"),
        (encoded(picture(0), "PNG"), "no JPEG header"),
    ],
)
def test_what_a_picture_does_not_need_is_found(data: bytes, found: str | None) -> None:
    assert foreign_segment(data) == found


@pytest.mark.parametrize("how", ["exif", "record"])
@pytest.mark.parametrize(("stage", "later"), [("generate", "settle"), ("settle", "publish")])
def test_samples_that_hold_more_are_neither_settled_nor_published(
    copied: Run, stage: str, later: str, how: str
) -> None:
    path = copied.stage_folder(stage).output("synthetic-00000.tar")
    first, *others = read_tar(path)
    with publishing(path, replace=True) as file:
        tar = TarWriter(file)
        record = first.record | ({"file": "private.jpg"} if how == "record" else {})
        tar.add(first.key, jpg=with_exif(first.jpg, b"private") if how == "exif" else first.jpg, record=record)
        for sample in others:
            tar.add(sample.key, jpg=sample.jpg, record=sample.record)
        tar.close()
    record_again(copied, stage, path.name)
    judge = copied.stage_folder("audit" if stage == "generate" else stage)
    verdict = json.loads(judge.output("verdict.json").read_text())
    verdict["judged"][path.name] = file.output(path.name).sha256
    judge.output("verdict.json").write_text(json.dumps(verdict))
    record_again(copied, judge.name, "verdict.json")
    shutil.rmtree(copied.stage_folder(later).root / "done")
    plan_stage(copied, later)
    what = "a segment 0xe1" if how == "exif" else "'file'"
    with pytest.raises(RunError, match=f"synthetic-00000.tar: the .* of {first.key} has {what}"):
        work_alone(copied, later)


def test_the_names_of_synthetic_identities_are_public() -> None:
    name = identity_name(ImageRequest(identity=1234567, index=0).identity)
    assert private_field(RECORD | {"identity": name}) is None


@pytest.mark.long
def test_a_whole_run_full_of_the_word_is_published_without_it(tiny_run: Any, tmp_path: Path) -> None:
    """From faces whose people, files and metadata have it, in a folder of that name, audited by a net of that name."""
    root = tmp_path / WORD
    config, cluster = set_up(root)
    faces = root / f"{WORD}-faces"
    listed = []
    for home in sorted((root / "faces").iterdir()):
        (faces / f"{WORD}-{home.name}").mkdir(parents=True)
        for image in sorted(home.glob("*.png")):
            target = faces / f"{WORD}-{home.name}" / f"{WORD}-{image.stem}.jpg"
            with Image.open(image) as picture:
                target.write_bytes(with_exif(encoded(picture, "JPEG", comment=WORD.encode()), WORD.encode()))
            listed.append(str(target.relative_to(faces)))
    (root / f"{WORD}.txt").write_text("\n".join(listed) + "\n")
    shutil.copy(tiny_run.folder / "train-embedder" / "recognition.safetensors", root / f"{WORD}-judge.safetensors")
    text = config.read_text().replace("name: tiny\n", f"name: {WORD}\n").replace("title: Tiny run", f"title: {WORD}")
    text = text.replace("faces: faces,", f"faces: {faces}, only: {WORD}.txt,")
    config.write_text(text.replace("fingerprint: {}", f"fingerprint: {{judge: {{weights: {WORD}-judge.safetensors}}}}"))
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "all", str(config), "--cluster", str(cluster)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    published = root / "runs" / WORD / "publish" / "tiny-set"
    found = [name for name, data in _contents(published) if WORD.encode() in data.lower() or WORD in name]
    assert found == []
    host = socket.gethostname().encode()
    texts = [path for path in published.iterdir() if path.suffix in (".md", ".json", ".txt")]
    assert [path.name for path in texts if host in path.read_bytes().split()] == []
    private = next((root / "runs" / WORD / "shard").glob("real-*.tar")).read_bytes()
    assert WORD.encode() in private
