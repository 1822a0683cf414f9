"""Random accidents during one chain: nobody else's job is touched, no work is done twice, `all` reaches the end.

ACCIDENTS=30 SEED=2 pytest -m cluster tests/cluster/test_accidents.py
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm.run_folder import RunFolder
from slurm.submission.job_record import JobRecord, read_job_record, write_job_record
from slurm.submission.queue import Task
from tests.jobs.commands import wait_until
from tests.jobs.conftest import CHAIN

from .commands import SECONDS, SITE, ClusterProject

ACCIDENTS = int(os.environ.get("ACCIDENTS") or 6)
SEED = int(os.environ.get("SEED") or 1)
LAUNCHES_TO_THE_END = 4  # after the last accident; one is enough unless an accident shows its effect late

MADE = ("shard/*.tar", "embed/*.h5", "*/*.safetensors", "generate/*.tar", "publish/tiny-set/*.tar")
LONGER = (
    *("train-diffusion.images=800", "generate.steps=60", "generate.images_per_identity=8"),
    *("generate.identities_per_shard=1", "train-recognition.epochs=8"),
)
HERE = "array: {ranks: 3}\ntrain: {ranks_per_node: 2, cpus: 1}\n"
CLUSTER = SITE + "array: {ranks: 3}\ntrain: {nodes: 2, ranks_per_node: 1, cpus: 1}\n"
FIELDS = "ArrayJobID:|,ArrayTaskID:|,State:|,Name:|,STDOUT:|"
NODE_OF_OTHERS = "127.0.0.4"


class Chain:
    """The chain, what others have in the queue beside it, and the accidents that may happen."""

    def __init__(self, project: ClusterProject, *, seed: int) -> None:
        self.project, self.draw = project, random.Random(seed)
        self.slurm = project.slurm
        self.told: list[str] = []
        self.link = project.root.parent / "link"
        self.link.symlink_to(project.root)
        held = ("--hold", "--output=/dev/null", "--wrap=sleep 9")
        on_node = (f"--nodelist={NODE_OF_OTHERS}", "--output=/dev/null", "--time=600", "--wrap=sleep 36000")
        self.others = [
            self.slurm.call("sbatch", "--parsable", *options)
            for options in (("--job-name=tiny.generate", *held), held, ("--job-name=tiny.embed", *on_node))
        ]
        self.of_copy: list[str] = []  # jobs of a copy that was launched

    def tasks(self) -> list[Task]:
        """The tasks of the run that wait or run."""
        lines = self.slurm.call("squeue", "--noheader", "--array", f"--Format={FIELDS}").splitlines()
        fields = [line.split("|") for line in lines]
        return [
            Task(job=job, index=int(index) if index.isdecimal() else None, state=state, called=name)
            for job, index, state, name, output, *_ in fields
            if output.startswith((str(self.project.runs), str(self.link)))
        ]

    def launch(self, *, ends: bool = True, via: Path | None = None, **environment: str) -> Any:
        """`all`, as a user would after an accident."""
        project = ClusterProject(root=via, slurm=self.slurm) if via else self.project
        done = project.run("all", *LONGER, cluster=CLUSTER, **environment)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or not ends, done.stderr
        self.check()
        return done

    def check(self) -> None:
        """No job of others was touched, and no rank has two tasks at work."""
        for job in self.others + self.of_copy:
            shown = self.project.shown(job)
            assert re.search(r"JobState=(PENDING|RUNNING)", shown), (job, shown, self.told)
            assert "JobState=CANCELLED" not in shown, (job, self.told)
        running = {(task.job, task.index): task for task in self.tasks() if task.state == "RUNNING"}
        for stage in CHAIN:
            record = self.record(stage)
            arrays = [job for job in record.jobs if job.kind != "canary"] if record else []
            ranks = Counter(rank for job in arrays for rank in job.tasks_by_rank(running))
            assert all(count == 1 for count in ranks.values()), (stage, ranks, self.told)

    def record(self, stage: str) -> JobRecord | None:
        return read_job_record(RunFolder(self.project.runs).stage(stage))

    def done(self) -> bool:
        return all((self.project.runs / stage / "summary.json").exists() for stage in CHAIN)

    def some_time(self) -> None:
        """Until something moved: a job started or ended, or a rank worked."""
        seconds, before = self.draw.uniform(0, 12), (self.tasks(), self._images())
        end = time.monotonic() + seconds
        while time.monotonic() < end and (self.tasks(), self._images()) == before:
            time.sleep(0.5)

    def _images(self) -> list[Any]:
        return [heartbeat["images"] for stage in CHAIN for heartbeat in self.project.heartbeats(stage)]

    def accident(self) -> None:
        """One of them, drawn."""
        happens: Callable[[], None] = self.draw.choice(
            [
                *(self.a_task_is_canceled, self.a_stage_is_canceled, self.the_user_cancels, self.a_rank_is_killed),
                *(self.the_controller_is_silent, self.the_controller_is_silent, self.a_node_fails, self.it_is_requeued),
                *(self.sbatch_refuses, self.ctrl_c, self.a_copy_is_looked_at, self.by_a_link, self.an_id_comes_again),
            ]
        )
        self.told.append(happens.__name__)
        print(f"{time.strftime('%H:%M:%S')} accident {len(self.told)}: {happens.__name__}", flush=True)
        happens()

    def a_task_is_canceled(self) -> None:
        for task in self._drawn():
            self.slurm.call("scancel", task.name, check=False)

    def a_stage_is_canceled(self) -> None:
        for task in self._drawn():
            same = {one.job for one in self.tasks() if one.called == task.called}
            self.slurm.call("scancel", *same, check=False)

    def the_user_cancels(self) -> None:
        stage = [task.called.rpartition(".")[2] for task in self._drawn()] if self.draw.random() < 0.5 else []
        root = self.draw.choice([self.project.root, self.link])
        done = ClusterProject(root=root, slurm=self.slurm).run("cancel", *stage, *LONGER, cluster=CLUSTER)
        assert done.returncode == 0 or "nothing to cancel" in done.stderr, done.stderr

    def a_rank_is_killed(self) -> None:
        running = [found for stage in CHAIN for found in self.project.heartbeats(stage) if found["state"] == "running"]
        ours = set(self.project.processes())
        for found in self.draw.sample(running, min(1, len(running))):
            if found["pid"] in ours:
                os.kill(found["pid"], signal.SIGKILL)

    def the_controller_is_silent(self) -> None:
        """Up to a minute, as if stopped or gone; ranks are told to stop meanwhile."""
        stop_it = self.draw.random() < 0.5
        if stop_it:
            self.slurm.pause_controller()
        else:
            self.slurm.stop_controller()
        for pid in self.project.processes() if self.draw.random() < 0.7 else []:
            self._terminate(pid)
        time.sleep(self.draw.uniform(5, 60))
        if self.draw.random() < 0.3:
            done = self.project.run("all", *LONGER, cluster=CLUSTER)
            assert done.returncode == 1, done.stderr
            assert "Traceback" not in done.stderr, done.stderr
        if stop_it:
            self.slurm.resume_controller()
        else:
            self.slurm.start_controller()

    def _terminate(self, pid: int) -> None:
        if pid in {found["pid"] for stage in CHAIN for found in self.project.heartbeats(stage)}:
            os.kill(pid, signal.SIGTERM)

    def a_node_fails(self) -> None:
        node = self.draw.choice([node for node in self.slurm.nodes if node != NODE_OF_OTHERS])
        if self.draw.random() < 0.5:
            self.slurm.power_off(node)
            wait_until(lambda: "down" in self.slurm.states()[node], what=f"{node} is down", seconds=SECONDS)
            self.launch(ends=False)
            self.slurm.power_on(node)
        else:
            self.slurm.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=accident")
            self.launch(ends=False)
            # A node that is heard of again comes back by itself; then this is refused.
            self.slurm.call("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)

    def it_is_requeued(self) -> None:
        for task in self._drawn():
            self.slurm.call("scontrol", "requeue", task.name, check=False)

    def sbatch_refuses(self) -> None:
        """After it took some jobs."""
        self.a_stage_is_canceled()
        count = self.project.root / f"count-{len(self.told)}"
        allowed = self.draw.randrange(3)
        refusal = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
        path = self._sbatch(
            f'echo x >> {count}; [ "$(wc -l < {count})" -le {allowed} ] || {{ echo "{refusal}" >&2; exit 1; }}\n'
            'exec /usr/bin/sbatch "$@"'
        )
        self.launch(ends=False, PATH=path)

    def ctrl_c(self) -> None:
        """While jobs are submitted."""
        self.a_stage_is_canceled()
        asked = self.project.root / f"asked-{len(self.told)}"
        path = self._sbatch(f'echo x >> {asked}; sleep 0.3; /usr/bin/sbatch "$@"; code=$?; sleep 0.7; exit $code')
        launcher = self.project.start("all", *LONGER, cluster=CLUSTER, PATH=path)
        until = self.draw.randrange(1, 4)
        wait_until(
            lambda: launcher.poll() is not None or (asked.exists() and len(asked.read_text().split()) >= until),
            what="jobs are submitted",
            seconds=SECONDS,
        )
        time.sleep(self.draw.uniform(0, 1))
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGINT)
        _, errors = launcher.communicate(timeout=SECONDS)
        assert "Traceback" not in errors, errors

    def a_copy_is_looked_at(self) -> None:
        """`status` and `cancel` there touch nothing; one copy is launched, too, and its jobs are held."""
        root = self.project.root.parent / f"copy-{len(self.told)}"
        shutil.copytree(self.project.root, root, symlinks=True, ignore=shutil.ignore_patterns("*.part"))
        copy = ClusterProject(root=root, slurm=self.slurm)
        copy.run("status", *LONGER)
        refused = copy.run("cancel", *LONGER, cluster=CLUSTER)
        assert refused.returncode == 1, refused.stdout
        assert "nothing to cancel" in refused.stderr, refused.stderr
        if not self.of_copy:
            path = self._sbatch('exec /usr/bin/sbatch --hold "$@"')
            done = copy.run("all", *LONGER, cluster=CLUSTER, PATH=path)
            assert done.returncode == 0, done.stderr
            self.of_copy = sorted({job for stage in CHAIN for job in copy.jobs(stage)})

    def by_a_link(self) -> None:
        self.launch(via=self.link)

    def an_id_comes_again(self) -> None:
        """A record holds the id of another's job."""
        stages = [stage for stage in CHAIN if self.record(stage)]
        stage = self.draw.choice(stages)
        record = self.record(stage)
        assert record is not None
        other = self.draw.choice(self.others)
        alive = {task.job for task in self.tasks()}
        jobs = [{**vars(job), "job": job.job if job.job in alive else other} for job in record.jobs]
        kinds = [type(record.jobs[0])(**job) for job in jobs]
        write_job_record(RunFolder(self.project.runs).stage(stage), JobRecord(**{**vars(record), "jobs": tuple(kinds)}))

    def _drawn(self) -> list[Task]:
        tasks = self.tasks()
        return [self.draw.choice(tasks)] if tasks else []

    def _sbatch(self, script: str) -> str:
        folder = self.project.root / f"bin-{len(self.told)}"
        folder.mkdir(exist_ok=True)
        (folder / "sbatch").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "sbatch").chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    def undo_stages(self) -> None:
        """The chain came to its end before the accidents did: a user removes a stage and those after it."""
        first = self.draw.randrange(1, len(CHAIN) // 2)
        print(f"{time.strftime('%H:%M:%S')} done; {CHAIN[first]} and what follows is removed", flush=True)
        for stage in CHAIN[first:]:
            shutil.rmtree(self.project.runs / stage)
        self.launch()


@pytest.mark.timeout(7200)
def test_a_chain_with_accidents_reaches_the_end_and_touches_no_job_of_others(project: ClusterProject) -> None:
    project.empty()
    done = project.run("all", *LONGER, cluster=HERE)
    assert done.returncode == 0, done.stderr
    undisturbed = [project.hashes(pattern) for pattern in MADE]
    shutil.rmtree(project.runs)

    chain = Chain(project, seed=SEED)
    chain.launch()
    for _ in range(ACCIDENTS):
        chain.some_time()
        if chain.done() and not chain.tasks():
            chain.undo_stages()
        chain.accident()
        chain.launch()
    for _ in range(LAUNCHES_TO_THE_END):
        wait_until(lambda: not chain.tasks(), what="the run's jobs have ended", seconds=3 * SECONDS)
        chain.check()
        if chain.done():
            break
        print(f"{time.strftime('%H:%M:%S')} launched again", flush=True)
        chain.launch()
    status = project.status(*LONGER)
    assert {name: stage["state"] for name, stage in status.items()} == dict.fromkeys(CHAIN, "done"), chain.told
    assert [project.hashes(pattern) for pattern in MADE] == undisturbed, chain.told
    assert list(project.runs.rglob("*.part")) == []
    for stage in CHAIN:
        lines = re.findall(rf"{stage} unit (\d+): done", project.logs(stage))
        assert all(count == 1 for count in Counter(lines).values()), (stage, Counter(lines), chain.told)
