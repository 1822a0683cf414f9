"""Submit the tiny run to the real Slurm and look at what becomes of its jobs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.cluster.virtual_slurm import VirtualSlurm
from tests.jobs.commands import Project, wait_until

SECONDS = 1200.0  # for whatever Slurm and its jobs have to come to; a fraction of it on a quiet machine
SITE = """
executor: slurm
partition: normal
environment: {GLOO_SOCKET_IFNAME: lo}
"""
ONE_BY_ONE = SITE + "array: {ranks: 2}\ntrain: {nodes: 1, ranks_per_node: 1, cpus: 1}\n"


@dataclass(frozen=True, kw_only=True)
class ClusterProject(Project):
    """A user's folder on the shared file system of a cluster."""

    slurm: VirtualSlurm

    def submit(self, command: str = "all", *more: str, cluster: str = ONE_BY_ONE) -> Any:
        done = self.run(command, *more, cluster=cluster)
        assert done.returncode == 0, done.stderr
        return done

    @property
    def id(self) -> str:
        """The id of the run."""
        return str(json.loads((self.runs / "run.json").read_text())["id"])

    def jobs(self, stage: str) -> list[str]:
        """The ids of a stage's jobs, in the order of their submission."""
        path = self.runs / stage / "submission.json"
        return [job["job"] for job in json.loads(path.read_text())["jobs"]] if path.exists() else []

    def queue(self) -> Counter[str]:
        """How many array tasks and jobs are in the queue, by state."""
        return Counter(self.slurm.call("squeue", "--noheader", "--array", "--format=%T").split())

    def shown(self, job: str) -> str:
        """What the controller says of a job, in one line per task."""
        return self.slurm.call("scontrol", "--oneliner", "show", "job", job)

    def wait(self, *, what: str = "the queue is empty") -> None:
        wait_until(lambda: not self.queue(), what=what, seconds=SECONDS)

    def wait_for(self, stage: str, *, images: int) -> None:
        """Wait until the present attempt of a training has told of so many images."""

        def reached() -> bool:
            assert not (self.runs / stage / "summary.json").exists(), f"{stage} was over before anybody looked"
            return any(
                heartbeat["state"] == "running" and heartbeat["images"] >= images
                for heartbeat in self.heartbeats(stage)
            )

        wait_until(reached, what=f"{stage} after {images} images", seconds=SECONDS)

    def status(self, *overrides: str) -> dict[str, Any]:
        """The stages by name, as `status --json` tells them of a run that was launched with these overrides."""
        done = self.run("status", "--json", *overrides)
        stages: list[dict[str, Any]] = json.loads(done.stdout)["stages"]
        return {stage["name"]: stage for stage in stages}

    def logs(self, stage: str) -> str:
        return "".join(path.read_text() for path in sorted((self.runs / stage / "logs").glob("*.log")))

    def empty(self) -> None:
        """Make every stage undone."""
        self.forget(*(path.name for path in self.runs.iterdir() if path.is_dir()))
