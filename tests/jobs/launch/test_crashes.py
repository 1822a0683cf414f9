"""Many random kills, in every stage: of a rank, of the launcher, of any process that it started, of all at once."""
# ruff: noqa: N802

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from jobs.frame.methods import find_method
from jobs.frame.metrics_file import read_metrics
from tests.jobs.methods.gandiffface import small_chain

from ..commands import SECONDS, Project, wait_until
from ..conftest import CHAIN, set_up

KILLS = int(os.environ.get("KILLS", "22"))
SEED = int(os.environ.get("SEED", "1"))
TWO_RANKS = "array: {ranks: 2}\ntrain: {ranks_per_node: 2, cpus: 1}\n"
OTHER = "gandiffface"  # the method whose own stages are killed as well; the first test kills the shared ones
OTHERS = tuple(name for name in find_method(OTHER).chain if f"\n{name}:" in small_chain.CONFIG)
OWN = (*find_method(OTHER).own_stages, "study-scores")
STAGES = [("cemiface", stage) for stage in CHAIN] + [(OTHER, stage) for stage in OTHERS if stage in OWN]
STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Project]]:
    """The small chain of each method, of which nothing has run yet."""
    roots = {method: tmp_path_factory.mktemp(f"crashes-{method}") for method in ("cemiface", OTHER)}
    projects = {method: Project(root=root) for method, root in roots.items()}
    for method, root in roots.items():
        set_up(root)
        if method == OTHER:
            shutil.rmtree(root / "faces")
            small_chain.draw_faces(root / "faces")
            (root / "prompts.yaml").write_text(small_chain.PROMPTS)
            config = small_chain.CONFIG.replace("name: small", "name: tiny", 1)
            (root / "configs" / "tiny.yaml").write_text(config)
    yield projects
    for project in projects.values():
        for process in project.processes():
            os.kill(process, signal.SIGKILL)


@pytest.mark.crash
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("method", "stage"), STAGES)
def test_F01_F02_F03_F19_F38_F41_F48_a_stage_killed_at_random_moments_ends_with_the_same_bytes(
    projects: dict[str, Project], method: str, stage: str
) -> None:
    project = projects[method]
    for before in OTHERS[: OTHERS.index(stage)] if method == OTHER else ():
        if not (project.runs / before / "summary.json").exists():
            done = project.run(before, cluster=TWO_RANKS)
            assert done.returncode == 0, done.stderr
    started = time.monotonic()
    done = project.run(stage, cluster=TWO_RANKS)
    assert done.returncode == 0, done.stderr
    undisturbed, seconds = _outcome(project, stage), time.monotonic() - started
    project.forget(stage)
    _Crashes(project, stage, seconds=seconds).kill(max(1, KILLS // len(STAGES)))
    done = project.run(stage, cluster=TWO_RANKS)
    assert done.returncode == 0, done.stderr
    assert _outcome(project, stage) == undisturbed
    summary = project.summary(stage)
    assert sum(summary["counts"].values()) == summary["images_in"]
    assert [path for path in project.runs.rglob("*") if path.name.endswith(".part")] == []
    assert project.run("verify").returncode == 0


def _outcome(project: Project, stage: str) -> dict[str, Any]:
    """The hashes of what the stage made, and its metrics but for the speed; of the report only the names."""
    outputs = {output["name"]: output["sha256"] for output in project.summary(stage)["outputs"]}
    if stage == "report":
        return dict.fromkeys(outputs, "")
    lines = read_metrics(project.runs / stage / "metrics.jsonl")
    return {**outputs, "metrics": [{key: line[key] for key in line if key != "images_per_second"} for line in lines]}


class _Crashes:
    """Launches of one stage, each signaled at a random moment of its `seconds`. A finished stage is redone."""

    def __init__(self, project: Project, stage: str, *, seconds: float) -> None:
        self.project, self.stage, self.seconds = project, stage, seconds
        self.draw = random.Random(f"{SEED} {stage}")
        self.launcher: subprocess.Popen[str] | None = None

    def kill(self, times: int) -> None:
        for _ in range(times):
            if self.launcher is None:
                self.launcher = self.project.start(self.stage, cluster=TWO_RANKS)
            with suppress(subprocess.TimeoutExpired):
                self.launcher.wait(timeout=self.draw.uniform(0.0, 1.1 * self.seconds))
            victims, number = self._choose()
            for victim in victims:
                with suppress(ProcessLookupError):
                    os.kill(victim, number)
            lives_on = number in STOPS and self.launcher.pid not in victims and self.draw.random() < 0.5
            if not lives_on:
                self._end()
        self._end()

    def _choose(self) -> tuple[Sequence[int], signal.Signals]:
        """Which processes to signal, and with which signal."""
        assert self.launcher
        everyone = self.project.processes()
        ranks = [heartbeat["pid"] for heartbeat in self.project.heartbeats(self.stage) if heartbeat["pid"] in everyone]
        target = self.draw.choice(["rank", "launcher", "any", "all"])
        number = self.draw.choice([signal.SIGKILL, signal.SIGKILL, *STOPS])
        if target == "all" or not everyone:
            return everyone, number
        if target == "launcher":
            return [self.launcher.pid], number
        return [self.draw.choice(ranks if target == "rank" and ranks else everyone)], number

    def _end(self) -> None:
        """Wait until the launch has ended and no process of it is left."""
        if self.launcher is None:
            return
        _, output = self.launcher.communicate(timeout=SECONDS)
        early = output.rstrip().endswith("KeyboardInterrupt")  # Ctrl-C while python was still importing
        assert early or "Traceback" not in output, output
        wait_until(lambda: self.project.processes() == [], what="no process left")
        if self.launcher.returncode == 0 and (self.project.runs / self.stage / "summary.json").exists():
            self.project.forget(self.stage)
        self.launcher = None
