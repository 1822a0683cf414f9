"""Ways around the privacy gate, each tried from end to end on a small run: `make attack`.

A real picture is planted, a file is edited, a name or a mark is forged. Each attack ends in one line that names it, or
in a published folder without the picture. Nothing here knows how the gate works: it changes files, runs the command as
a user does, and reads what comes out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import build_recognition, recognition_bytes
from jobs.frame.experiment import load_run_folder
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.tars.index import index_path
from shards.tars.reader import read_tar
from shards.tars.shard_set import ShardSet

from ..commands import Project, flip_a_bit
from ..one_rank import edit_config, record_again
from ..planted import plant

pytestmark = pytest.mark.attack

STAGES = ("fingerprint", "audit", "settle", "publish")  # from the planted images to the published folder


def keys(number: int) -> list[str]:
    """The first keys of the tiny run's set."""
    return [f"{identity:06d}-{index:03d}" for identity in range(4) for index in range(4)][:number]


def again(project: Project, *stages: str) -> None:
    """Forget stages, so that the command does them again."""
    for stage in stages:
        shutil.rmtree(project.runs / stage)


def published(project: Project) -> dict[str, bytes]:
    """The images of the published folder by key."""
    folder = project.runs / "publish" / "tiny-set"
    return {sample.key: sample.jpg for tar in folder.glob("*.tar") for sample in read_tar(tar)}


def refused(project: Project, *overrides: str, command: str = "all") -> str:
    """The last line of a launch that publishes nothing."""
    done = project.run(command, *overrides)
    assert done.returncode != 0
    assert not (project.runs / "publish" / "tiny-set").exists()
    assert "Traceback" not in done.stderr
    line: str = done.stderr.strip().splitlines()[-1]
    return line


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    """A finished run that is to be published again."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    edit_config(project.runs, root=str(project.root))
    again(project, "publish", "report")
    return project


# Pictures.


def mirrored(jpeg: bytes) -> bytes:
    return encode_jpeg(np.ascontiguousarray(decode_rgb(jpeg)[:, ::-1]), quality=95)


def encoded_again(jpeg: bytes) -> bytes:
    return encode_jpeg(decode_rgb(jpeg), quality=60)


def brighter(jpeg: bytes) -> bytes:
    return encode_jpeg((decode_rgb(jpeg) * 0.9 + 20).clip(0, 255).astype(np.uint8), quality=95)


@pytest.fixture(scope="module")
def with_copies(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, bytes]]:
    """A run whose generator has put out real pictures, audited and published; the copies by what they are."""
    project = Project.copy_of(tiny_run, tmp_path_factory.mktemp("copies") / "project")
    edit_config(project.runs, root=str(project.root))
    run = load_run_folder(project.runs)
    real = ShardSet(run.ledger.outputs("shard", prefix="real-", suffix=".tar"))
    held_out = ShardSet(run.ledger.outputs("shard", prefix="held-out-", suffix=".tar"))
    other = project.root / "others" / "ann" / "1.png"
    other.parent.mkdir(parents=True)
    pixels = np.random.default_rng(5).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((16, 16)).save(other)
    (project.root / "configs" / "tiny.yaml").write_text(
        (project.root / "configs" / "tiny.yaml")
        .read_text()
        .replace("fingerprint: {}", "fingerprint: {also: [{name: others, faces: others}]}")
    )
    copies = {
        "exact": real.jpeg(3),
        "mirrored": mirrored(real.jpeg(9)),
        "encoded again": encoded_again(real.jpeg(12)),
        "brighter": brighter(real.jpeg(15)),
        "of a held-out person": held_out.jpeg(2),
        "of a held-out person, mirrored": mirrored(held_out.jpeg(7)),
        "of another set": encode_jpeg(np.asarray(Image.open(other)), quality=95),
    }
    plant(run, dict(zip(keys(len(copies)), copies.values(), strict=True)))
    again(project, *STAGES, "report")
    done = project.run("all")
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(copies, keys(len(copies)), strict=True)), published(project)


@pytest.mark.parametrize(
    "copy",
    [
        "exact",
        "mirrored",
        "encoded again",
        "brighter",
        "of a held-out person",
        "of a held-out person, mirrored",
        "of another set",
    ],
)
def test_a_copy_of_a_real_picture_is_not_in_the_published_folder(
    with_copies: tuple[dict[str, str], dict[str, bytes]], copy: str
) -> None:
    planted, images = with_copies
    assert planted[copy] not in images
    assert images


# Files.


EDITED = [
    "audit/verdict.json",
    "settle/verdict.json",
    "settle/synthetic-00000.tar",
    "generate/synthetic-00001.tar",
    "fingerprint/real-00000.h5",
    "fingerprint/held-out-00000.h5",
    "fingerprint/centers.h5",
]


@pytest.mark.parametrize("name", EDITED)
def test_a_file_of_the_same_size_with_other_bytes_is_named(project: Project, name: str) -> None:
    flip_a_bit(project.runs / name)
    reread = {"audit": ("settle",), "generate": ("audit", "settle"), "fingerprint": ("audit", "settle"), "settle": ()}
    again(project, *reread[name.partition("/")[0]])
    line = refused(project)
    assert name in line


def test_a_link_to_a_tar_is_not_published(project: Project) -> None:
    path = project.runs / "settle" / "synthetic-00000.tar"
    elsewhere = project.root / "elsewhere.tar"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "settle/synthetic-00000.tar" in refused(project)


def test_a_fifo_in_the_place_of_a_tar_is_not_waited_for_and_the_tar_is_written_again(project: Project) -> None:
    path = project.runs / "settle" / "synthetic-00000.tar"
    whole = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    done = project.run("all")
    assert done.returncode == 0, done.stderr
    assert path.is_file()
    assert path.read_bytes() == whole
    assert (project.runs / "publish" / "tiny-set" / path.name).read_bytes() == whole


def test_a_private_tar_under_the_name_of_a_synthetic_one_is_refused(project: Project) -> None:
    run = load_run_folder(project.runs)
    private = project.runs / "shard" / "real-00000.tar"
    target = project.runs / "settle" / "synthetic-00000.tar"
    shutil.copy(private, target)
    shutil.copy(index_path(private), index_path(target))
    for name in (target.name, index_path(target).name):
        record_again(run, "settle", name)
    path = project.runs / "settle" / "verdict.json"
    verdict = json.loads(path.read_text())
    summary = json.loads((project.runs / "settle" / "summary.json").read_text())
    verdict["judged"][target.name] = next(o["sha256"] for o in summary["outputs"] if o["name"] == target.name)
    path.write_text(json.dumps(verdict))
    record_again(run, "settle", "verdict.json")
    line = refused(project, command="publish")
    assert "synthetic-00000.tar" in line
    assert "private" in line or "real" in line


# Names.


@pytest.mark.parametrize("name", ["done", "logs", "plan.json", "superseded", "con"])
def test_a_set_cannot_have_a_name_that_the_suite_uses_itself(project: Project, name: str) -> None:
    line = refused(project, f"publish.set_name={name}")
    assert "publish.set_name" in line
    assert name in line


# Claims.


def test_a_net_that_cannot_tell_faces_apart_is_refused_as_judge(project: Project) -> None:
    config = RecognitionConfig(net="ir_tiny", embedding=32, image_size=16)
    net = build_recognition(config)
    for parameter in net.parameters():
        parameter.data.zero_()
    list(net.parameters())[-1].data.fill_(1.0)
    (project.root / "constant.safetensors").write_bytes(recognition_bytes(net, config))
    again(project, *STAGES[:-1])
    line = refused(project, "fingerprint.judge.weights=constant.safetensors")
    assert "fingerprint" in line or "audit" in line


def test_an_audit_of_an_older_version_is_not_enough(project: Project) -> None:
    run = load_run_folder(project.runs)
    path = project.runs / "settle" / "verdict.json"
    verdict = json.loads(path.read_text())
    del verdict["lineage"]
    path.write_text(json.dumps(verdict))
    record_again(run, "settle", "verdict.json")
    assert "older version" in refused(project, command="publish")


@pytest.mark.parametrize(
    "source", ["{source: real, count: 3, candidates: 5}", "{source: files, faces: faces, count: 3}"]
)
def test_real_people_as_identities_need_a_stated_ground(project: Project, source: str) -> None:
    assert "identities.consent" in refused(project, f"identities={source}")


def test_real_faces_of_another_run_are_not_copied_into_a_set_by_calling_them_synthetic(project: Project) -> None:
    tar = project.root / "theirs.tar"
    shutil.copy(project.runs / "shard" / "held-out-00000.tar", tar)
    fields = "{source: files, faces: theirs.tar, faces_are: synthetic, count: 4, candidates: 18, max_cosine: 1.0}"
    line = refused(project, f"identities={fields}", "generate.inquiry_copies=1")
    assert "identities.faces_are: got synthetic" in line
    assert "private" in line


def test_synthetic_faces_that_are_given_are_of_unknown_origin(project: Project) -> None:
    fields = "{source: files, faces: faces, faces_are: synthetic, count: 4, candidates: 40, max_cosine: 1.0}"
    assert "unknown origin: identities.faces" in refused(project, f"identities={fields}")


def test_a_real_set_that_says_it_is_public_is_not_imported(project: Project, tmp_path: Path) -> None:
    folder = project.runs / "shard"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"private": False}))
    for name in ("done", "logs", "lists"):
        shutil.rmtree(folder / name, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "import", str(folder)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "sets").glob("*/manifest.json"))
