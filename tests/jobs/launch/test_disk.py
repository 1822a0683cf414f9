"""A full disk, a late file system, and what ranks make of them."""
# ruff: noqa: N802

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.experiment import load_run, save_run

from ..commands import PROJECT, SECONDS, Project, wait_until

RANK = """
import sys
from jobs.launch.entry import main
from slurm.submission.payload import Payload
main(Payload(entry="jobs.launch.entry:main", run=sys.argv[1], stage=sys.argv[2], rank=0, ranks=1, slurm=True))
"""


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    """A copy of the tiny run that knows where it lies now: ranks read the run folder alone."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    folder = project.root / "configs"
    save_run(load_run(folder / "tiny.yaml", cluster=folder / "one_core.yaml"))
    return project


@pytest.mark.parametrize("stage", ["generate", pytest.param("train-diffusion", marks=pytest.mark.long)])
def test_F27_a_full_disk_ends_a_rank_with_74_names_the_file_and_costs_nothing_that_was_whole(
    project: Project, stage: str
) -> None:
    """No file may grow beyond what a heartbeat needs: to a writer the same as no space left."""
    before = project.hashes("**/*.tar") | project.hashes("**/*.safetensors")
    project.forget(stage)
    full = subprocess.run(
        project.arguments(stage),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
        check=False,
    )
    assert full.returncode == 1
    assert "could not be written: File too large; free space and run again" in full.stderr
    assert "Traceback" not in full.stderr
    (heartbeat,) = project.heartbeats(stage)
    assert (heartbeat["state"], heartbeat["exit"]) == ("failed", 74)
    assert str(project.runs / stage) in heartbeat["reason"]
    assert list(project.runs.rglob("*.part")) == []
    done = project.run(stage)
    assert done.returncode == 0, done.stderr
    after = project.hashes("**/*.tar") | project.hashes("**/*.safetensors")
    assert {name: after[name] for name in before if "checkpoints" not in name} == {
        name: content for name, content in before.items() if "checkpoints" not in name
    }


def test_F30_a_rank_waits_for_what_another_node_wrote_and_this_one_does_not_see_yet(project: Project) -> None:
    before = project.hashes("publish/tiny-set/*.tar")
    project.forget("publish")
    late = [project.runs / "audit" / name for name in ("summary.json", "done/00000.json")]
    for path in late:
        path.rename(path.with_suffix(".unseen"))
    rank = subprocess.Popen(
        [sys.executable, "-c", RANK, str(project.runs), "publish"],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SLURM_JOB_ID": "7", "PATH": "/nowhere"},
    )
    wait_until(lambda: project.heartbeats("publish"), what="the rank at work")
    for path in late:
        path.with_suffix(".unseen").rename(path)
    _, output = rank.communicate(timeout=SECONDS)
    assert rank.returncode == 0, output
    assert project.hashes("publish/tiny-set/*.tar") == before
