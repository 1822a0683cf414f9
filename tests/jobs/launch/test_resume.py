"""Killed or stopped at any moment, a rerun gives the same bytes, and no process is left."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slurm.processes import is_alive

from ..commands import SECONDS, Project, kill_group, wait_until

WEIGHTS = {
    "train-diffusion": "train-diffusion/denoiser.safetensors",
    "train-recognition": "train-recognition/recognition.safetensors",
}
# Long enough that no machine finishes before it notices a fault (half a second after the launcher was killed).
LONGER = {"train-diffusion": "train-diffusion.images=512", "train-recognition": "train-recognition.epochs=64"}
IMAGES = {"train-diffusion": 512, "train-recognition": 1024}
TWO_RANKS = "array: {ranks: 1}\ntrain: {ranks_per_node: 2, cpus: 1}\n"


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


Fault = Callable[
    [Project, str, subprocess.Popen[str]], tuple[int, str]
]  # the launch's exit code, and a part of its output


def _last_rank(project: Project, stage: str) -> int:
    pid: int = project.heartbeats(stage)[-1]["pid"]
    return pid


def _at_work(project: Project, stage: str) -> bool:
    """Whether ranks of this launch have written a heartbeat; processes of an earlier launch are gone."""
    return any(is_alive(heartbeat["pid"]) for heartbeat in project.heartbeats(stage))


def _kill_launcher(project: Project, stage: str, launcher: subprocess.Popen[str]) -> tuple[int, str]:
    """F19: no signal reaches the ranks; they notice it, save and stop."""
    launcher.kill()
    return -signal.SIGKILL, ""


def _kill_rank(project: Project, stage: str, launcher: subprocess.Popen[str]) -> tuple[int, str]:
    """F38: as the kernel does when memory runs out; all ranks start again, so this launch finishes."""
    os.kill(_last_rank(project, stage), signal.SIGKILL)
    return 0, "exited without a reason (killed, or out of memory?)"


def _kill_everything(project: Project, stage: str, launcher: subprocess.Popen[str]) -> tuple[int, str]:
    """As in a power failure."""
    kill_group(launcher, signal.SIGKILL)
    return -signal.SIGKILL, ""


def _interrupt(project: Project, stage: str, launcher: subprocess.Popen[str]) -> tuple[int, str]:
    """Ctrl-C reaches the launcher and everything it started."""
    kill_group(launcher, signal.SIGINT)
    return 130, "interrupted; rerun the same command to resume"


def _terminate(project: Project, stage: str, launcher: subprocess.Popen[str]) -> tuple[int, str]:
    launcher.terminate()
    return 130, "interrupted; rerun the same command to resume"


def _stop_rank(project: Project, stage: str, launcher: subprocess.Popen[str]) -> tuple[int, str]:
    """F14: one rank gets a signal and all stop; the launcher starts them again, so this launch finishes."""
    os.kill(_last_rank(project, stage), signal.SIGTERM)
    return 0, f"{stage}: finished"


def _train(
    project: Project, stage: str, *more: str, faults: list[tuple[int, Fault]], cluster: str | None = None
) -> None:
    """Launch the stage once per fault, which happens after N images, and once more to its end."""
    for images, fault in faults:
        launcher = project.start(stage, *more, cluster=cluster)
        if images:
            wait_until(lambda: _at_work(project, stage), what="a rank at work")
            wait_until(lambda images=images: project.trained(stage) >= images, what=f"{images} images")  # type: ignore[misc]
        code, words = fault(project, stage, launcher)
        _, output = launcher.communicate(timeout=SECONDS)
        assert launcher.returncode == code, output
        assert words in output
        assert "Traceback" not in output
        wait_until(lambda: project.processes() == [], what="no process left")
    done = project.run(stage, *more, cluster=cluster)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("stage", "faults"),
    [
        ("train-diffusion", [(16, _kill_launcher), (48, _stop_rank)]),
        ("train-recognition", [(16, _interrupt), (48, _kill_rank)]),
    ],
)
def test_F11_F19_a_disturbed_training_gives_the_bytes_of_an_undisturbed_one(
    project: Project, stage: str, faults: list[tuple[int, Fault]]
) -> None:
    project.forget(stage)
    _train(project, stage, LONGER[stage], faults=[])
    metrics = (project.runs / stage / "metrics.jsonl").read_bytes()
    undisturbed = project.hashes(WEIGHTS[stage])
    assert len(undisturbed) == 1
    project.forget(stage)
    _train(project, stage, LONGER[stage], faults=faults)
    assert project.hashes(WEIGHTS[stage]) == undisturbed
    assert (project.runs / stage / "metrics.jsonl").read_bytes() == metrics  # no line lost, none doubled
    assert list(project.runs.rglob("*.part")) == []
    assert project.summary(stage)["images_out"] == IMAGES[stage]


def test_F10_a_second_launch_waits_and_leaves_the_first_ones_config_alone(project: Project) -> None:
    before = project.hashes("generate/*.tar")
    project.forget("generate")
    first = project.start("generate")
    wait_until((project.runs / "generate" / "plan.json").exists, what="the first launch is at work")
    second = project.start("generate", "generate.steps=3")
    _, output = first.communicate(timeout=SECONDS)
    assert first.returncode == 0, output
    _, output = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, output
    assert f"process {first.pid} is working on this run; waiting" in output
    kept = project.hashes("generate/superseded/*/*.tar")
    assert sorted(kept.values()) == sorted(before.values())  # the first launch used its own config
    third = project.run("generate", "generate.steps=3")
    assert "generate: already done" in third.stderr


def test_F13_ctrl_c_while_a_rank_is_only_just_starting_stops_at_once(project: Project) -> None:
    project.forget("generate")
    launcher = project.start("generate")
    wait_until((project.runs / "generate" / "logs").exists, what="a rank was started")
    kill_group(launcher, signal.SIGINT)
    _, output = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 130, output
    assert "interrupted; rerun the same command to resume" in output
    assert project.processes() == []
    assert list(project.runs.glob("generate/*.tar")) == []


def test_F37_a_loss_that_is_no_number_stops_the_training_and_spares_the_checkpoints(project: Project) -> None:
    checkpoints = project.hashes("train-diffusion/checkpoints/step-*/*")
    failed = project.run("train-diffusion", "train-diffusion.learning_rate=1e30")
    assert failed.returncode == 1
    assert "the loss is nan after" in failed.stderr
    assert "lower the learning rate" in failed.stderr
    again = project.run("train-diffusion")  # the old config, whose weights and checkpoints were set aside
    assert again.returncode == 0, again.stderr
    assert project.hashes("train-diffusion/checkpoints/step-*/*").keys() == checkpoints.keys()


@pytest.fixture(scope="module")
def undisturbed(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """The hashes of what a stage's training on two ranks gives without a fault; trained once per stage."""

    @cache
    def hashes(stage: str) -> dict[str, str]:
        project = Project.copy_of(tiny_run, tmp_path_factory.mktemp("undisturbed") / "project")
        project.forget(stage)
        _train(project, stage, LONGER[stage], faults=[], cluster=TWO_RANKS)
        return project.hashes(WEIGHTS[stage])

    return hashes


# After a stopped or killed rank the launch trains to the end, so nothing can follow.
FAULTS = [
    [(16, _kill_launcher), (48, _kill_rank)],
    [(16, _interrupt), (48, _stop_rank)],
    [(16, _terminate), (48, _kill_everything)],
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "faults"),
    zip(["train-diffusion", "train-recognition", "train-diffusion"], FAULTS, strict=True),
)
def test_F13_F14_one_fault_after_another_in_a_training_on_two_ranks_gives_the_same_bytes(
    project: Project, stage: str, faults: list[tuple[int, Fault]], undisturbed: Callable[[str], dict[str, str]]
) -> None:
    project.forget(stage)
    _train(project, stage, LONGER[stage], faults=faults, cluster=TWO_RANKS)
    assert project.hashes(WEIGHTS[stage]) == undisturbed(stage)


@pytest.mark.long
def test_F39_ranks_do_not_wait_for_a_rank_that_did_not_start(project: Project) -> None:
    """Both are interrupted before the process group is there."""
    stage = "train-recognition"
    project.forget(stage)
    launcher = project.start(stage, cluster=TWO_RANKS)
    wait_until(lambda: len(project.heartbeats(stage)) == 2, what="two ranks at work")
    kill_group(launcher, signal.SIGINT)
    _, output = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 130, output
    wait_until(lambda: project.processes() == [], what="no process left")
    done = project.run(stage, cluster=TWO_RANKS)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_training_made_shorter_does_not_end_with_the_longer_ones_weights(project: Project) -> None:
    stage = "train-diffusion"
    longer = project.hashes(WEIGHTS[stage])
    done = project.run(stage, f"{stage}.images=32")
    assert done.returncode == 0, done.stderr
    assert project.summary(stage)["images_out"] == 32
    assert project.hashes(WEIGHTS[stage]) != longer


@pytest.mark.long
def test_F48_a_set_killed_while_it_is_published_leaves_no_half_folder(project: Project) -> None:
    before = project.hashes("publish/tiny-set/*")
    project.forget("publish")
    launcher = project.start("publish")
    wait_until(lambda: list(project.runs.glob("publish/.tiny-set*")), what="a folder that is being filled")
    kill_group(launcher, signal.SIGKILL)
    launcher.communicate(timeout=SECONDS)
    assert not (project.runs / "publish" / "tiny-set").exists()
    assert project.run("publish").returncode == 0
    assert project.hashes("publish/tiny-set/*") == before
    assert list(project.runs.glob("publish/.tiny-set*")) == []


@pytest.mark.long
def test_F35_a_training_resumed_on_another_number_of_ranks_has_nearly_the_same_losses(project: Project) -> None:
    stage = "train-diffusion"
    losses = _losses(project, stage)
    project.forget(stage)
    launcher = project.start(stage)
    wait_until(lambda: project.trained(stage) >= 32, what="half of the training")
    kill_group(launcher, signal.SIGINT)
    launcher.communicate(timeout=SECONDS)
    done = project.run(stage, cluster=TWO_RANKS)
    assert done.returncode == 0, done.stderr
    figures = project.summary(stage)["figures"]
    assert figures["world_size"] == 2
    assert figures["resumed_after_images"] >= 32
    found = _losses(project, stage)
    assert found.keys() == losses.keys()
    for images, loss in losses.items():
        assert found[images] == pytest.approx(loss, rel=1e-3), images


def _losses(project: Project, stage: str) -> dict[int, float]:
    lines = (project.runs / stage / "metrics.jsonl").read_text().splitlines()
    return {value["images"]: value["loss"] for value in map(json.loads, lines)}


@pytest.mark.long
def test_F01_F03_F19_F48_a_chain_killed_again_and_again_ends_with_the_same_bytes(project: Project) -> None:
    kinds = ("generate/*.tar", "shard/*.tar", "embed/*.h5", "**/*.safetensors", "publish/tiny-set/*.tar")
    undisturbed = [project.hashes(kind) for kind in kinds]
    project.forget(*(path.name for path in project.runs.iterdir() if path.is_dir()))
    moments = random.Random(1)
    for _ in range(7):
        launcher = project.start("all")
        try:
            launcher.wait(timeout=moments.uniform(1.0, 9.0))
        except subprocess.TimeoutExpired:
            kill_group(launcher, signal.SIGKILL)
        launcher.communicate(timeout=SECONDS)
        wait_until(lambda: project.processes() == [], what="no process left")
    done = project.run("all")
    assert done.returncode == 0, done.stderr
    assert [project.hashes(kind) for kind in kinds] == undisturbed
    assert list(project.runs.rglob("*.part")) == []
    assert project.run("verify").returncode == 0
    for path in project.runs.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        assert sum(summary["counts"].values()) == summary["images_in"], path
