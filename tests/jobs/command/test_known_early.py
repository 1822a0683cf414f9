"""What cannot work is refused before anything runs, and by `plan`, where it can be known."""

from __future__ import annotations

import hashlib
import itertools
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from cemiface.diffusion.config import DiffusionConfig
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import build_recognition, recognition_bytes
from cemiface.semihard.config import DenoiserConfig
from cemiface.semihard.denoiser import Denoiser, denoiser_bytes
from jobs.command.main import main
from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.launch.launch import launch, refusals
from shards.embeddings.classifier import classifier_bytes
from shards.privacy.fingerprints import HASH_BYTES, Fingerprints, vectors_bytes
from shards.privacy.lineage import DataSet

from ...shards.pictures import jpeg
from ..conftest import GOVERNANCE
from ..one_rank import plan_stage, work_alone

PEOPLE, IMAGES = 5, 5  # two people are held out: 15 training images, 10 in the control group

NET = {"net": "ir_tiny", "embedding": 32, "image_size": 32}

DENOISER = {"preset": "tiny32"}

CONFIG: dict[str, Any] = {
    "name": "early",
    "shard": {"faces": "faces", "image_size": 32, "held_out_identities": 2, "max_bad_fraction": 0.9},
    "train-embedder": {"sets": ["real"], "recognition": NET, "batch": 15},
    "embed": {},
    "train-diffusion": {"denoiser": DENOISER, "images": 64, "batch": 8},
    "identities": {"count": 2, "candidates": 3},
    "generate": {"images_per_identity": 4, "similarity": [0.0, 1.0]},
    "train-recognition": {"recognition": NET, "batch": 8},
    "study-sets": {
        "recognition": NET,
        "batch": 8,
        "compare": {"real": {"sets": ["real"]}, "some": {"sets": ["synthetic"], "images": 8}},
    },
    "study-groups": {"recognition": NET, "batch": 3, "groups": 5, "min_images": 5},
    "study-m": {"recognition": NET, "batch": 4},
    "fingerprint": {},
    "audit": {"false_alarms": 0.5},
    "settle": {},
    "publish": {"set_name": "s", "creator": "c", "license": "l", **yaml.safe_load(textwrap.dedent(GOVERNANCE))},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for person, number in itertools.product(range(PEOPLE), range(IMAGES)):
        path = tmp_path / "faces" / f"person-{person}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(person * 10 + number, size=32))
    path = tmp_path / "early.yaml"
    path.write_text(json.dumps(CONFIG))
    return path


def _plan(config: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as end:
        main(["plan", str(config), *overrides])
    lines = capsys.readouterr().out.splitlines()
    return int(end.value.code or 0), [line for line in lines if line.startswith("a launch would refuse this: ")]


def test_a_run_that_can_work_is_not_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _plan(config, capsys) == (0, [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "audit.false_alarms=0.4",
            "audit.false_alarms: got 0.4 with a control group of 10 faces; allowed: at least 5",
        ),
        ("train-embedder.batch=16", "train-embedder.batch: got 16 for 15 images (real); allowed: 1 to 15"),
        (
            "shard.held_out_identities=4 | train-embedder.batch=5 | study-sets.batch=5 | study-groups.batch=2 | "
            "study-groups.groups=2",
            "train-embedder.sets: got 1 identity of shard.faces to train on; allowed: 2 or more; lower shard.held_out",
        ),
        ("train-recognition.batch=9", "train-recognition.batch: got 9 for 8 images (synthetic); allowed: 1 to 8"),
        (
            "train-recognition.sets=[synthetic, real] | train-recognition.batch=24",
            "got 24 for 23 images (synthetic and real)",
        ),
        ("study-sets.batch=9", "study-sets.batch: got 9 for 8 images (compare.some)"),
        ("study-sets.compare.some.images=9", "study-sets.compare.some.images: got 9 for 8 images (synthetic)"),
        ("study-groups.batch=4", "study-groups.batch: got 4 for 3 images (one of 5 groups, at most)"),
        ("study-m.batch=5", "study-m.batch: got 5 for 4 images (one m)"),
        ("identities.count=4", "identities.count: got 4 of 3 candidates; allowed: 1 to 3"),
        (
            "identities.source=real | identities.candidates=4 | identities.consent=given",
            "identities.candidates: got 4; allowed: 1 to 3 (one image per real training person)",
        ),
        ("train-diffusion.micro_batch=3", "train-diffusion.micro_batch: got 3 for a share of 8 images per rank"),
    ],
)
def test_numbers_that_rule_each_other_out_are_refused_before_anything_runs(
    config: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    overrides = override.split(" | ")
    code, (line,) = _plan(config, capsys, *overrides)
    assert code == 1
    assert message in line
    with pytest.raises(SystemExit):
        main(["all", str(config), *overrides])
    assert message in capsys.readouterr().err
    assert not (config.parent / "runs" / "early" / "shard").exists()


def test_plan_names_everything_that_a_launch_would_refuse(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = _plan(config, capsys, "audit.false_alarms=0.4", "study-m.batch=5", "train-embedder.batch=16")
    assert len(lines) == 3


def test_a_batch_that_the_ranks_cannot_share_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = config.parent / "site.yaml"
    site.write_text("train: {nodes: 3, ranks_per_node: 2}\n")
    _, lines = _plan(config, capsys, "--cluster", str(site))
    assert [line.partition("refuse this: ")[2].partition(";")[0] for line in lines] == [
        f"{stage}.batch: got {batch} for 6 ranks (nodes x ranks_per_node of the cluster file)"
        for stage, batch in (("train-embedder", 15), ("train-diffusion", 8), ("train-recognition", 8))
    ]


@pytest.mark.parametrize(
    ("fields", "override", "message"),
    [
        ({"channels": 64}, "", "trained with channels 64, here it is"),
        ({}, "train-diffusion.diffusion.timesteps=500", "trained with timesteps 1000, here it is 500"),
        ({"embedding": 7}, "", "trained with embedding 7, here it is 32"),  # of the E_id that the run trains
        ({"image_size": 16}, "", ""),  # no weight depends on it
    ],
)
def test_weights_to_continue_from_are_compared_by_their_header(
    config: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any], override: str, message: str
) -> None:
    denoiser = Denoiser(DenoiserConfig.model_validate({**DENOISER, "embedding": 32, **fields}))
    data = denoiser_bytes(denoiser, diffusion=DiffusionConfig(), embedder="0" * 64)
    (config.parent / "start.safetensors").write_bytes(data)
    given = "train-diffusion.initial_weights=start.safetensors"
    code, lines = _plan(config, capsys, given, *filter(None, [override]))
    told = [line for line in lines if "start.safetensors: trained with" in line]
    assert (code, len(told)) == (1, 1 if message else 0)  # publish refuses weights of unknown origin, too
    assert not message or message in told[0]


@pytest.fixture(scope="module")
def net() -> bytes:
    """The weights file of a recognition net, as this suite writes it."""
    config = RecognitionConfig.model_validate(NET)
    return recognition_bytes(build_recognition(config), config)


@pytest.mark.parametrize(
    ("field", "others"),
    [
        ("embedder", ["embed={centers: classifier, classifier: rows.safetensors}"]),
        ("fingerprint.judge", []),
        ("evaluate.judge", ["evaluate={}"]),
    ],
)
def test_a_given_net_that_cannot_be_loaded_is_refused_by_the_head_of_its_file(
    config: Path, capsys: pytest.CaptureFixture[str], net: bytes, field: str, others: list[str]
) -> None:
    folder = config.parent
    (folder / "rows.safetensors").write_bytes(classifier_bytes(np.ones((5, 32), np.float32), classes=list("abcde")))
    torch.save(build_recognition(RecognitionConfig.model_validate(NET)).state_dict(), folder / "plain.pth")
    plain = (folder / "plain.pth").read_bytes()
    denoiser = Denoiser(DenoiserConfig.model_validate(DENOISER))
    files = {
        "whole.safetensors": (net, ""),
        "short.safetensors": (net[:-1], "not a whole safetensors file"),
        "other.safetensors": (
            denoiser_bytes(denoiser, diffusion=DiffusionConfig(), embedder="0" * 64),
            "its metadata does not describe a recognition net",
        ),
        "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        "plain.pth": (plain, "without a color order, and a wrong one gives no error; give color: RGB"),
        "short.pth": (plain[:-100], "not a whole weights file; fetch it again"),
        "net.onnx": (b"\x08\x07", "got suffix '.onnx'; allowed: .safetensors, .pt, .pth, .ckpt"),
    }
    for name, (data, message) in files.items():
        (folder / name).write_bytes(data)
        _, lines = _plan(config, capsys, *others, f"{field}.weights={name}")
        told = [line for line in lines if f"{field}.weights: weights {folder / name}: " in line]
        assert [message in line for line in told] == [True] * bool(message), (name, lines)
    _, lines = _plan(config, capsys, *others, f"{field}.weights=plain.pth", f"{field}.color=RGB")
    assert not any("plain.pth" in line for line in lines)
    if field != "embedder":  # E_id would be trained, and the classifier with it
        _, (line,) = _plan(config, capsys, *others, f"{field}.color=BGR")
        assert f"{field}.color: got BGR without weights; allowed: null; give {field}.weights" in line
    _, lines = _plan(config, capsys, *others, f"{field}.weights=whole.safetensors", f"{field}.color=BGR")
    assert any("color gives BGR, the net's config RGB" in line for line in lines)


def test_a_classifier_of_another_net_and_no_classifier_are_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, given = config.parent / "rows.safetensors", "embed={centers: classifier, classifier: rows.safetensors}"
    for width, message in ((32, None), (31, f"{path}: weight rows have 31 values, the embeddings 32; same net?")):
        path.write_bytes(classifier_bytes(np.ones((3, width), np.float32), classes=list("abc")))
        _, lines = _plan(config, capsys, given)
        assert lines == ([f"a launch would refuse this: {message}"] if message else [])
    path.write_bytes(b"no file of tensors")
    _, (line,) = _plan(config, capsys, given)
    assert f"{path}: " in line
    assert "a classifier with `weight` and `classes`" in line


def test_weights_of_inception_that_are_no_weights_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "inception.pth").write_text("<html>404")
    _, (line,) = _plan(config, capsys, "evaluate={inception: inception.pth}")
    assert f"evaluate.inception: weights {config.parent / 'inception.pth'}: text of 9 bytes, not weights" in line


def test_fingerprints_of_another_net_are_refused_as_soon_as_the_net_is_known(
    config: Path, capsys: pytest.CaptureFixture[str], net: bytes
) -> None:
    (config.parent / "net.safetensors").write_bytes(net)
    path, name = config.parent / "theirs.h5", hashlib.sha256(net).hexdigest()[:16]
    also, given = "fingerprint.also=[{name: theirs, faces: theirs.h5}]", "fingerprint.judge.weights=net.safetensors"

    def refused(*overrides: str, width: int, by: str) -> list[str]:
        path.write_bytes(_fingerprints(width=width, embedder=by))
        return [line for line in _plan(config, capsys, also, *overrides)[1] if str(path) in line]

    assert refused(given, width=32, by=name) == []
    (line,) = refused(given, width=32, by="another")
    assert f"{path}: its embeddings are by the net another, the audit's net is {name}; export them again" in line
    assert refused(width=32, by="yet to be trained") == []
    (line,) = refused(width=512, by="yet to be trained")
    assert f"{path}: embeddings of 512 numbers, the net's have 32" in line
    path.write_bytes(b"no HDF5")
    _, lines = _plan(config, capsys, also)
    assert any(str(path) in line for line in lines)


def _fingerprints(*, width: int, embedder: str) -> bytes:
    features = np.zeros((2, width), np.float32)
    features[:, 0] = 1
    hashes = np.zeros((2, HASH_BYTES), np.uint8)
    found = Fingerprints(keys=["a", "b"], identities=["x", "x"], features=features, exact=hashes, near=hashes)
    return vectors_bytes(found, embedder=embedder, data_set=DataSet(name="theirs", sha256="0" * 64))


@pytest.mark.parametrize(
    ("compared", "message"),
    [
        ("{sets: [synthetic], m: [0.0, 1.0]}", ""),
        ("{sets: [synthetic], m: [0.5]}", "asked.m: got 0.5; allowed: those of the set, 0, 1"),
        ("{sets: [synthetic], asked: {pose: [left]}}", "asked.pose: got left; allowed: those of the set, none"),
        ("{sets: [real], m: [0.0]}", "asked.m: got 0.0; allowed: those of the set, none"),
        ("{sets: [real, synthetic], m: [1.0]}", ""),
        ("{sets: [real, synthetic], m: [1.0], images_of_each: 4}", "asked.m: got 1.0; allowed: those of the set, none"),
    ],
)
def test_a_study_of_images_that_nobody_asks_for_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], compared: str, message: str
) -> None:
    _, lines = _plan(config, capsys, f"study-sets.compare.some={compared}", "study-sets.batch=4")
    assert [line.partition("study-sets.compare.some.")[2] for line in lines] == [message] * bool(message)


def test_weights_of_another_net_or_cut_short_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "start.safetensors").write_bytes(b"\0" * 100)
    _, (line, _) = _plan(config, capsys, "train-diffusion.initial_weights=start.safetensors")
    assert "start.safetensors: not a whole safetensors file" in line


def test_a_missing_file_of_a_late_stage_is_told_before_the_first_one_runs(config: Path) -> None:
    run = load_run(config, overrides=["fingerprint.judge.weights=nowhere.safetensors"])
    with pytest.raises(ConfigError, match=r"fingerprint.judge.weights: got .*nowhere.safetensors, no such file"):
        launch(run, run.chain)
    assert not run.stage_folder("shard").root.exists()


def test_what_only_the_exact_counts_rule_out_is_told_as_soon_as_shard_is_done(config: Path) -> None:
    """Broken images were planned, so that the numbers seemed to fit. Nothing else has run yet."""
    for path in sorted((config.parent / "faces").rglob("4.jpg")):
        path.write_bytes(b"")
    assert list(_refusals(config)) == []
    with pytest.raises(ConfigError, match=r"train-embedder.batch: got 15 for 12 images \(real\); allowed: 1 to 12"):
        _shard(config)
    with pytest.raises(ConfigError, match="with a control group of 8 faces"):
        _shard(config, "train-embedder.batch=12", "study-groups.batch=2")
    overrides = ["train-embedder.batch=12", "audit.false_alarms=0.7", "study-groups.batch=2"]
    _shard(config, *overrides)
    assert list(_refusals(config, *overrides)) == []
    assert [str(one).partition(":")[0] for one in _refusals(config)] == [
        "train-embedder.batch",
        "study-groups.batch",
        "audit.false_alarms",
    ]


def _refusals(config: Path, *overrides: str) -> list[Exception]:
    run = load_run(config, overrides=overrides)
    return list(refusals(run, run.chain))


def _shard(config: Path, *overrides: str) -> None:
    run = load_run(config, overrides=overrides)
    run.folder.create()
    plan_stage(run, "shard")
    work_alone(run, "shard")
