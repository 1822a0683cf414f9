"""Any signal of a cluster, in any phase of any stage: the work is saved, and at most one step of it is lost."""
# ruff: noqa: N802

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.experiment import load_run, save_run

from ..commands import PROJECT, Project, flip_a_bit
from ..conftest import CHAIN
from ..phases import Phase, run_with_signals

TERM, USR1, USR2 = signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
SIGNALS = [(TERM,), (USR1,), (USR2,), (USR2, TERM)]
BATCH = 8
STEP_DONE = "jobs.training.step_monitor:StepMonitor.mean_loss"
LOSS, AUGMENT = "cemiface.semihard.losses:cemiface_loss", "cemiface.recognition.augment:augment"
TRAINING = [
    Phase(stage="train-diffusion", function="jobs.training.world:join"),
    Phase(stage="train-diffusion", function="jobs.training.engine:start_engine"),  # warm-up
    Phase(stage="train-diffusion", function="slurm.checkpoints:Checkpoints.newest"),
    Phase(stage="train-diffusion", function=LOSS),  # the first step
    Phase(stage="train-diffusion", function=LOSS, call=3),
    Phase(stage="train-diffusion", function="cemiface.diffusion.ema:Ema.update", call=2),
    Phase(stage="train-diffusion", function="slurm.checkpoints:publish"),  # in the middle of a save
    Phase(stage="train-recognition", function="jobs.training.engine:start_engine"),
    Phase(stage="train-recognition", function=AUGMENT, call=2),
    Phase(stage="train-recognition", function=STEP_DONE, call=3),
]
SAMPLED = "cemiface.semihard.denoiser:Denoiser.forward"
EMBEDDED = "cemiface.recognition.nets:Embedder.forward"
PROGRESS = "jobs.frame.rank:Work.progress"
ARRAYS = [
    Phase(stage="shard", function=PROGRESS, call=3),
    Phase(stage="embed", function=EMBEDDED),
    Phase(stage="identities", function=SAMPLED, call=2),
    Phase(stage="generate", function=SAMPLED),  # sampling
    Phase(stage="generate", function=SAMPLED, call=2),
    Phase(stage="generate", function="shards.tars.writer:TarWriter.add", call=2),
    Phase(stage="generate", function="slurm.markers:publish_json"),  # between units
    Phase(stage="evaluate", function=EMBEDDED),  # evaluation
    Phase(stage="fingerprint", function=PROGRESS),
    Phase(stage="audit", function=PROGRESS),
    Phase(stage="settle", function=PROGRESS),
    Phase(stage="publish", function=PROGRESS),
]


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    """A copy of the tiny run with its own root in its config, as ranks read only the run folder."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    _save(project)
    return project


def _save(project: Project, *overrides: str) -> None:
    folder = project.root / "configs"
    save_run(load_run(folder / "tiny.yaml", overrides=overrides, cluster=folder / "one_core.yaml"))


def _is_saved(project: Project, stage: str) -> bool:
    """The rank recorded that it stopped, and left no partial file."""
    (heartbeat,) = project.heartbeats(stage)
    return heartbeat["state"] == "stopped" and not list((project.runs / stage).rglob("*.part"))


@pytest.mark.long
@pytest.mark.parametrize("signals", SIGNALS, ids=lambda signals: "-".join(one.name for one in signals))
@pytest.mark.parametrize("phase", TRAINING, ids=str)
def test_F11_F12_F13_F15_a_training_signaled_anywhere_saves_once_and_loses_at_most_one_step(
    project: Project, phase: Phase, signals: Sequence[signal.Signals]
) -> None:
    project.undo(phase.stage)
    ended = run_with_signals(project.runs, phase, signals=signals, counted=STEP_DONE)
    assert ended.code == 75
    assert ended.after <= 1
    assert _is_saved(project, phase.stage)
    saved = [
        json.loads(path.read_text())["images"]
        for path in (project.runs / phase.stage / "checkpoints").glob("step-*/COMPLETE")
    ]
    assert max(saved) == (ended.before + ended.after) * BATCH
    assert len(saved) == len(set(saved)) <= 2


@pytest.mark.long
@pytest.mark.parametrize("signals", SIGNALS, ids=lambda signals: "-".join(one.name for one in signals))
@pytest.mark.parametrize("phase", ARRAYS, ids=str)
def test_F11_F12_F13_an_array_rank_signaled_anywhere_stops_at_once_and_keeps_what_is_done(
    project: Project, phase: Phase, signals: Sequence[signal.Signals]
) -> None:
    project.undo(phase.stage)
    counted = phase.function if phase.function in {SAMPLED, EMBEDDED} else PROGRESS
    ended = run_with_signals(project.runs, phase, signals=signals, counted=counted)
    assert ended.code == 75
    assert ended.after <= 2
    assert _is_saved(project, phase.stage)


NEVER = Phase(stage="generate", function="jobs.frame.rank:Work.done", call=99)


@pytest.mark.long
@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_F11_F13_a_stop_in_the_middle_of_a_tar_costs_at_most_the_batch_at_hand(project: Project, call: int) -> None:
    """Two tars of four batches of two steps: a signal at each step of the first tar, and the first of the second."""
    undisturbed = _by_hand(project)
    project.undo("generate")
    phase = Phase(stage="generate", function=SAMPLED, call=call)
    ended = run_with_signals(project.runs, phase, signals=[TERM], counted=SAMPLED)
    assert ended.code == 75
    again = run_with_signals(project.runs, NEVER, signals=[], counted=SAMPLED)
    assert again.code == 0
    assert project.hashes("generate/*.tar") == undisturbed
    assert ended.before + ended.after + again.before <= 16 + 2  # one batch of two steps may be sampled twice
    assert list((project.runs / "generate" / "kept").rglob("*")) == []


@pytest.mark.long
def test_F06_partial_work_of_another_config_or_damaged_is_not_resumed(project: Project) -> None:
    undisturbed = _by_hand(project)
    phase = Phase(stage="generate", function=SAMPLED, call=5)
    for other, spoil in ((("seed=4",), lambda kept: None), ((), flip_a_bit)):
        project.undo("generate")
        _save(project, "generate.batch=2", *other)
        run_with_signals(project.runs, phase, signals=[TERM], counted=SAMPLED)
        spoil(project.runs / "generate" / "kept" / "synthetic-00000.tar")
        assert _by_hand(project) == undisturbed


def _by_hand(project: Project) -> dict[str, str]:
    """Make the synthetic tars in batches of two."""
    if (project.runs / "generate" / "summary.json").exists():
        project.undo("generate")
    _save(project, "generate.batch=2")
    assert run_with_signals(project.runs, NEVER, signals=[], counted=SAMPLED).code == 0
    return project.hashes("generate/*.tar")


@pytest.mark.long
@pytest.mark.parametrize("number", [TERM, USR1, USR2], ids=lambda number: number.name)
@pytest.mark.parametrize("stage", ["train-diffusion", "generate"])
def test_F13_a_rank_signaled_while_it_imports_torch_asks_to_be_rerun(
    project: Project, stage: str, number: signal.Signals
) -> None:
    project.undo(stage)
    command = [sys.executable, "-m", "tests.jobs.phases", str(project.runs), stage, number.name]
    assert subprocess.run(command, cwd=PROJECT, check=False).returncode == 75
    assert _is_saved(project, stage)


def test_every_stage_that_takes_long_has_a_phase() -> None:
    stages = {phase.stage for phase in (*TRAINING, *ARRAYS)}
    assert set(CHAIN) - stages == {"train-embedder", "report"}  # the code of train-recognition; one page
