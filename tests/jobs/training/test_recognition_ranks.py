"""A recognition training, its head split over ranks, resumes with the same losses on any other number of ranks."""
# ruff: noqa: N802

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from ..commands import SECONDS, Project, kill_group, wait_until
from ..conftest import TinyRun

STAGE = "train-recognition"
# 48 epochs of one batch, which 1, 2 and 3 ranks can share; few classes: every rank holds one or two.
OVERRIDES = [
    f"{STAGE}.{field}"
    for field in ("batch=12", "epochs=48", "learning_rate=0.01", "log_images=12", "checkpoint_images=12")
]
KINDS = {"cosface": [], "adaface, sampled": [f"{STAGE}.margin.kind=adaface", f"{STAGE}.margin.sample_rate=0.75"]}


def _cluster(ranks: int) -> str:
    return f"array: {{ranks: 1}}\ntrain: {{ranks_per_node: {ranks}, cpus: 1}}\n"


def _losses(project: Project) -> dict[int, float]:
    lines = (project.runs / STAGE / "metrics.jsonl").read_text().splitlines()
    return {line["images"]: line["loss"] for line in map(json.loads, lines)}


@pytest.mark.long
@pytest.mark.parametrize("kind", list(KINDS))
def test_F35_a_training_stopped_on_2_ranks_resumes_with_the_same_losses_on_1_and_3(
    tiny_run: TinyRun, tmp_path: Path, kind: str
) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "copy")
    project.forget(STAGE)
    more = [*OVERRIDES, *KINDS[kind]]
    done = project.run(STAGE, *more, cluster=_cluster(1))
    assert done.returncode == 0, done.stderr
    undisturbed = _losses(project)
    assert len(undisturbed) == 48

    project.forget(STAGE)
    launcher = project.start(STAGE, *more, cluster=_cluster(2))
    wait_until(lambda: project.trained(STAGE) >= 60, what="60 images on two ranks")
    kill_group(launcher, signal.SIGINT)
    _, errors = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 130, errors
    stopped = tmp_path / "stopped"
    shutil.copytree(project.runs / STAGE, stopped)
    for ranks in (1, 3):
        project.forget(STAGE)
        shutil.copytree(stopped, project.runs / STAGE)
        done = project.run(STAGE, *more, cluster=_cluster(ranks))
        assert done.returncode == 0, done.stderr
        resumed = project.summary(STAGE)["figures"]["resumed_after_images"]
        assert 60 <= resumed < 576
        # The order of sums differs with the ranks; losses fall from 7 to 0.02, where a share would be too strict.
        assert _losses(project) == pytest.approx(undisturbed, rel=2e-3, abs=1e-3)
