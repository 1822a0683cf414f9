"""Training the denoiser: pieces, memory layouts, interruptions and other numbers of ranks give the same curve."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from shards.images.jpeg import decode_rgb

from ..commands import SECONDS, Project, kill_group, wait_until

STAGE = "train-diffusion"
INTERRUPTIONS = int(os.environ.get("CEMIFACE_INTERRUPTIONS", "6"))  # of the long test; 20 takes some minutes


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


def _curve(project: Project) -> dict[int, float]:
    lines = (project.runs / STAGE / "metrics.jsonl").read_text().splitlines()
    return {value["images"]: value["loss"] for value in map(json.loads, lines)}


def test_pieces_of_a_batch_and_another_memory_layout_give_the_same_losses(project: Project) -> None:
    whole = _curve(project)
    project.forget(STAGE)
    done = project.run(STAGE, f"{STAGE}.micro_batch=2", f"{STAGE}.channels_last=false")
    assert done.returncode == 0, done.stderr
    pieces = _curve(project)
    assert pieces.keys() == whole.keys()
    assert list(pieces.values()) == pytest.approx(list(whole.values()), rel=1e-3)


def test_pieces_that_do_not_divide_a_ranks_share_are_refused(project: Project) -> None:
    project.forget(STAGE)
    failed = project.run(STAGE, f"{STAGE}.micro_batch=3")
    assert failed.returncode == 1
    assert "micro_batch: got 3 for a share of 8 images per rank; allowed: a divisor of it" in failed.stderr


def test_a_training_continues_from_given_weights(project: Project) -> None:
    earlier = project.root / "earlier.safetensors"
    earlier.write_bytes((project.runs / STAGE / "denoiser.safetensors").read_bytes())
    project.forget(STAGE)
    still = [
        f"{STAGE}.{field}" for field in ("learning_rate=1e-12", "images=16", "initial_weights=earlier.safetensors")
    ]
    done = project.run(STAGE, *still)
    assert done.returncode == 0, done.stderr
    given, trained = (load_file(path) for path in (earlier, project.runs / STAGE / "denoiser.safetensors"))
    for name, tensor in given.items():
        np.testing.assert_allclose(trained[name], tensor, atol=1e-6, err_msg=name)

    missing = project.run(STAGE, f"{STAGE}.initial_weights=nowhere.safetensors")
    assert missing.returncode == 1, missing.stderr
    assert "initial_weights: got" in missing.stderr
    assert "nowhere.safetensors, no such file" in missing.stderr


def test_a_grid_of_samples_and_its_cosines_are_kept(tiny_run: Any) -> None:
    folder = tiny_run.folder / STAGE / "samples"
    grid = decode_rgb((folder / "000000000064.jpg").read_bytes())
    assert grid.shape == (8 * 16, (1 + 5) * 16, 3)  # a row per person: the real face, then m from low to high
    cosines = json.loads((folder / "cosines.jsonl").read_text().splitlines()[-1])
    assert list(cosines) == ["images", "m -1.0", "m -0.5", "m 0.0", "m 0.5", "m 1.0"]
    assert all(-1 <= value <= 1 for name, value in cosines.items() if name != "images")


@pytest.mark.long
@pytest.mark.parametrize(("field", "tolerance"), [("precision=bf16", 0.05), ("compile=true", 1e-3)])
def test_what_is_meant_for_gpus_computes_the_same_on_a_cpu(project: Project, field: str, tolerance: float) -> None:
    whole = _curve(project)
    project.forget(STAGE)
    done = project.run(STAGE, f"{STAGE}.{field}")
    assert done.returncode == 0, done.stderr
    assert list(_curve(project).values()) == pytest.approx(list(whole.values()), rel=tolerance)


@pytest.mark.long
def test_compiled_sampling_gives_nearly_the_same_faces(project: Project) -> None:
    plain = _faces(project)
    project.forget("generate")
    done = project.run("generate", "generate.compile=true", "generate.precision=fp32")
    assert done.returncode == 0, done.stderr
    assert np.abs(_faces(project).astype(int) - plain.astype(int)).mean() < 1


def _faces(project: Project) -> np.ndarray:
    from shards.tars.shard_set import ShardSet

    shards = ShardSet(sorted((project.runs / "generate").glob("synthetic-*.tar")))
    return np.stack([shards.rgb(row) for row in range(len(shards))])


@pytest.mark.long
def test_F13_F35_a_training_interrupted_at_random_moments_on_1_2_and_3_ranks_follows_the_undisturbed_curve(
    project: Project,
) -> None:
    fields = [f"{STAGE}.{field}" for field in ("batch=12", "images=1200", "log_images=12", "checkpoint_images=60")]
    project.forget(STAGE)
    done = project.run(STAGE, *fields)
    assert done.returncode == 0, done.stderr
    undisturbed = _curve(project)
    assert len(undisturbed) == 100

    project.forget(STAGE)
    draw = random.Random(1)
    kinds = (signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL)
    moments = sorted(draw.sample(range(12, 1100, 12), INTERRUPTIONS))
    for number, images in enumerate(moments):
        ranks, kind = draw.choice((1, 2, 3)), kinds[number % 3]
        before = _resumable(project)
        launcher = project.start(STAGE, *fields, cluster=_cluster(ranks))
        wait_until(lambda images=images: project.trained(STAGE) >= images, what=f"{images} images")  # type: ignore[misc]
        kill_group(launcher, kind)
        launcher.communicate(timeout=SECONDS)
        wait_until(lambda: project.processes() == [], what="no process left")
        lost = project.trained(STAGE) - _resumable(project)
        assert lost < 60 if kind == signal.SIGKILL else lost <= 12  # a checkpoint interval; a step
        assert _resumable(project) >= before
    done = project.run(STAGE, *fields, cluster=_cluster(3))
    assert done.returncode == 0, done.stderr
    assert project.summary(STAGE)["figures"]["resumed_after_images"] >= moments[-1] - 60
    found = _curve(project)
    assert found.keys() == undisturbed.keys()
    assert list(found.values()) == pytest.approx(list(undisturbed.values()), rel=5e-3)


def _cluster(ranks: int) -> str:
    return f"array: {{ranks: 1}}\ntrain: {{ranks_per_node: {ranks}, cpus: 1}}\n"


def _resumable(project: Project) -> int:
    """Images of the newest whole checkpoint."""
    steps = sorted((project.runs / STAGE / "checkpoints").glob("step-*"))
    return int(steps[-1].name.removeprefix("step-")) if steps else 0


@pytest.mark.long
def test_F07_F19_tars_are_the_same_for_1_3_and_7_tasks_killed_or_not(project: Project) -> None:
    fields = (
        "identities.count=7",
        "identities.candidates=9",
        "generate.identities_per_shard=1",
        "generate.images_per_identity=20",
        "generate.batch=8",
        "generate.mixture=[{low: 0, high: 0, weight: 3}, {low: 0.5, high: 1, interval: 0.1, weight: 1}]",
    )
    assert project.run("identities", *fields).returncode == 0
    draw, found = random.Random(1), []
    for ranks, kills in ((1, 0), (3, 2), (7, 2)):
        project.forget("generate")
        for _ in range(kills):
            launcher = project.start("generate", *fields, cluster=f"array: {{ranks: {ranks}}}")
            wait_until(lambda: project.heartbeats("generate"), what="ranks at work")
            try:
                launcher.wait(timeout=draw.uniform(0.5, 6.0))
            except subprocess.TimeoutExpired:
                kill_group(launcher, signal.SIGKILL)
            launcher.communicate(timeout=SECONDS)
            wait_until(lambda: project.processes() == [], what="no process left")
        done = project.run("generate", *fields, cluster=f"array: {{ranks: {ranks}}}")
        assert done.returncode == 0, done.stderr
        found.append(project.hashes("generate/synthetic-*.tar"))
    assert len(found[0]) == 7
    assert found[0] == found[1] == found[2]
