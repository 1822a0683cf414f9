"""Training the GAN: what it writes, and that kills, ranks and pieces of a batch change nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cemiface.gandiff.gan.generator import load_generator
from cemiface.weights import read_weights
from shards.images.jpeg import decode_rgb
from shards.privacy.lineage import read_lineage

from ..commands import PROJECT, SECONDS, Project, kill_group, sha256, wait_until
from ..conftest import set_up

HERE = Path(__file__).parent
STAGE, GENERATOR = "train-gan", "generator.safetensors"
CONFIG = f"""
name: tiny
method: gan
seed: 3
embedder: {{weights: {PROJECT / "nets" / "embedder.safetensors"}}}
shard: {{faces: faces, name: Drawn people, image_size: 16, shard_images: 20, max_bad_fraction: 0.1}}
embed: {{}}
train-gan:
  gan: {{preset: tiny32, image_size: 16}}
  loss: {{penalty_every: 2}}
  images: 96
  batch: 8
  checkpoint_images: 16
  log_images: 8
  sample_images: 48
  frechet_images: 48
  frechet_samples: 20
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A finished training. The method is installed as a package of its own would be."""
    root = tmp_path_factory.mktemp("gan") / "project"
    installed = root.parent / "installed"
    package = installed / "gan_method-1.0.dist-info"
    package.mkdir(parents=True)
    for name in ("gan_method.py", "toy_method.py"):
        shutil.copy(HERE / name, installed)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: gan-method\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[cemiface.methods]\ngan = gan_method:METHOD\n")
    config, _ = set_up(root)
    config.write_text(CONFIG)
    project = Project(root=root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{installed}")
        done = project.run("all")
        assert done.returncode == 0, done.stderr[-4000:]
        yield project


@pytest.fixture
def again(trained: Project, tmp_path: Path) -> Project:
    """A copy in which the training is still to do."""
    shutil.copytree(trained.root, tmp_path / "project")
    project = Project(root=tmp_path / "project")
    project.forget(STAGE)
    return project


def _curve(project: Project) -> dict[int, dict[str, float]]:
    lines = (project.runs / STAGE / "metrics.jsonl").read_text().splitlines()
    curve = {line.pop("images"): line for line in map(json.loads, lines)}
    for line in curve.values():
        assert line.pop("images_per_second") > 0
    return curve


def _distances(project: Project) -> list[float]:
    lines = (project.runs / STAGE / "samples" / "frechet.jsonl").read_text().splitlines()
    return [json.loads(line)["frechet"] for line in lines]


def test_the_generator_is_loaded_from_its_file_and_says_what_it_learned_from(trained: Project) -> None:
    path = trained.runs / STAGE / GENERATOR
    generator = load_generator(path)
    w = generator.mapping(torch.randn(2, generator.z_width))
    assert generator.synthesis(w).shape == (2, 3, 16, 16)
    assert generator.w_mean.abs().sum() > 0
    (faces,) = read_lineage(read_weights(path)[1], net="generator")
    assert (faces.name, faces.identities) == ("Drawn people", 8)


def test_metrics_tell_how_critic_and_generator_stand(trained: Project) -> None:
    curve = _curve(trained)
    assert list(curve) == list(range(8, 97, 16))  # the steps with penalties
    for line in curve.values():
        assert line["margin"] == pytest.approx(line["real_score"] - line["fake_score"])
        assert line["critic_loss"] == pytest.approx(line["pairing"] + 2 / 2 * (line["r1"] + line["r2"]), rel=1e-4)
        assert min(line[name] for name in ("critic_gradient", "generator_gradient", "r1", "r2")) > 0
        assert 0 <= line["right_pairs"] <= 1
        assert line["learning_rate"] == 0.002


def test_sheets_and_frechet_distances_are_made_on_a_schedule(trained: Project) -> None:
    folder = trained.runs / STAGE / "samples"
    sheets = [f"{images:012d}-{psi}.jpg" for images in (48, 96) for psi in ("0.7", "1.0")]
    assert sorted(path.name for path in folder.glob("*.jpg")) == sheets
    assert decode_rgb((folder / sheets[0]).read_bytes()).shape == (8 * 16, 8 * 16, 3)
    lines = [json.loads(line) for line in (folder / "frechet.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [48, 96]
    assert all(line["frechet"] > 0 and -1 <= line["cosine"] <= 1 for line in lines)
    assert trained.summary(STAGE)["figures"]["frechet"] == lines[-1]["frechet"]


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_that_was_interrupted_ends_in_the_same_bytes(
    trained: Project, again: Project, kind: signal.Signals
) -> None:
    launcher = again.start("all", f"{STAGE}.images=4000000")  # the length is not part of what a checkpoint depends on
    wait_until(lambda: again.trained(STAGE) >= 40, what="40 images")
    kill_group(launcher, kind)
    launcher.communicate(timeout=SECONDS)
    wait_until(lambda: again.processes() == [], what="no process left")
    kept = sorted((again.runs / STAGE / "checkpoints").glob("step-*"))
    for late in [path for path in kept if int(path.name.removeprefix("step-")) > 80]:
        shutil.rmtree(late)
    done = again.run("all")
    assert done.returncode == 0, done.stderr
    assert sha256(again.runs / STAGE / GENERATOR) == sha256(trained.runs / STAGE / GENERATOR)


def test_two_ranks_and_pieces_of_a_batch_give_the_same_curve(trained: Project, again: Project) -> None:
    two = "array: {ranks: 1}\ntrain: {ranks_per_node: 2, cpus: 1}\n"
    done = again.run("all", f"{STAGE}.micro_batch=2", f"{STAGE}.channels_last=false", cluster=two)
    assert done.returncode == 0, done.stderr
    assert again.summary(STAGE)["figures"]["world_size"] == 2
    expected, found = _curve(trained), _curve(again)
    assert found.keys() == expected.keys()
    for images in found:
        assert found[images] == pytest.approx(expected[images], rel=0.02, abs=1e-3), images
    assert _distances(again) == pytest.approx(_distances(trained), rel=0.02)  # the ranks share the faces


def test_a_distance_that_was_missing_when_the_training_stopped_is_measured_after_the_resume(
    trained: Project, again: Project
) -> None:
    """As if the stop had come while the distance after 48 images was measured."""
    assert again.run("all", f"{STAGE}.images=48").returncode == 0
    samples = again.runs / STAGE / "samples"
    (samples / "frechet.jsonl").write_text("")
    assert again.run("all").returncode == 0
    assert _distances(again) == _distances(trained)
    assert sha256(again.runs / STAGE / GENERATOR) == sha256(trained.runs / STAGE / GENERATOR)


def test_faces_of_another_size_than_the_generators_are_refused(again: Project) -> None:
    failed = again.run("plan", f"{STAGE}.gan.image_size=32")
    assert failed.returncode != 0
    assert "train-gan.gan.image_size: got 32, allowed: that of shard.image_size, 16" in failed.stderr


def test_a_training_continues_from_the_generator_and_the_critic_of_an_earlier_one(
    trained: Project, again: Project
) -> None:
    start = again.root / "start"
    start.mkdir()
    for name in (GENERATOR, "critic.safetensors"):
        shutil.copy(trained.runs / STAGE / name, start)
    given = f"train-gan.initial_weights={start / GENERATOR}"
    done = again.run(STAGE, given, "train-gan.images=8", "train-gan.learning_rate=0.0001")
    assert done.returncode == 0, done.stderr
    before, after = (read_weights(path)[0] for path in (start / GENERATOR, again.runs / STAGE / GENERATOR))
    moved = max(float((before[name] - after[name]).abs().max()) for name in before)
    assert 0 < moved < 0.01  # from random weights it would be far more
    for overrides, words in (
        ((given, "train-gan.gan.w_width=16"), "trained with w_width 32, here it is 16; give both the same"),
        (("train-gan.initial_weights=lost/generator.safetensors",), "train-gan.initial_weights: got"),
    ):
        refused = again.run("all", *overrides)
        assert refused.returncode == 1
        assert words in refused.stderr.splitlines()[-1]
    (start / "critic.safetensors").unlink()
    refused = again.run("all", given)
    assert "beside the generator" in refused.stderr.splitlines()[-1]
