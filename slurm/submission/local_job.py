"""The processes of one payload on this machine: started through submitit, watched and ended by this process."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import submitit
from submitit.core.utils import JobPaths
from submitit.local.local import LocalJob as SubmititJob

from slurm.errors import RunError
from slurm.run_folder import StageFolder
from slurm.submission.payload import Payload

NO_LIMIT = 60 * 24 * 365  # minutes; a time limit is submitit's, local ranks have none


class LocalJob:
    """The processes of one payload: one rank of an array, or all ranks of a process group."""

    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor
        self._killed: set[int] = set()  # by us

    @property
    def _processes(self) -> Sequence[subprocess.Popen[bytes]]:
        return self._executor.processes

    def codes(self) -> dict[int, int]:
        """The exit codes of the ended processes by number; negative: the signal that ended it."""
        polled = {number: process.poll() for number, process in enumerate(self._processes)}
        return {number: code for number, code in polled.items() if code is not None}

    def ended(self) -> bool:
        """Whether no process is left."""
        return len(self.codes()) == len(self._processes)

    def lost(self) -> dict[int, int]:
        """The processes that a signal ended which was not ours, and the signal."""
        return {number: -code for number, code in self.codes().items() if code < 0 and number not in self._killed}

    def ask_to_stop(self, number: signal.Signals) -> None:
        """Send a signal of `StopFlag` to every process that is left."""
        for process in self._processes:
            process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to every process that is left."""
        for number, process in enumerate(self._processes):
            if process.poll() is None:
                self._killed.add(number)
                process.kill()

    def output(self, number: int) -> Path:
        """The file with what the process has printed."""
        path: Path = JobPaths(self._executor.folder, self._executor.job, number).stdout
        return path


class LocalExecutor(submitit.LocalExecutor):  # type: ignore[misc]  # submitit has no types
    """submitit's local executor without its controller, a process in between that ends no group of ranks.

    It starts one process per entry of `environments`, which holds the variables that this process alone gets.
    """

    def __init__(self, folder: Path, *, python: str, environments: Sequence[Mapping[str, str]]) -> None:
        super().__init__(folder, python=python)
        self.update_parameters(timeout_min=NO_LIMIT, tasks_per_node=len(environments))
        self.environments = environments
        self.job = f"{os.getpid()}-{secrets.token_hex(4)}"  # never the name of an earlier attempt
        self.processes: list[subprocess.Popen[bytes]] = []

    def _submit_command(self, command: str) -> SubmititJob[None]:
        for number, environment in enumerate(self.environments):
            task = {
                "SUBMITIT_EXECUTOR": "local",
                "SUBMITIT_LOCAL_JOB_ID": self.job,
                "SUBMITIT_LOCAL_NTASKS": str(len(self.environments)),
                "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
                "SUBMITIT_LOCAL_NODEID": "0",
                "SUBMITIT_LOCAL_GLOBALID": str(number),
                "SUBMITIT_LOCAL_LOCALID": str(number),
            }
            with open(JobPaths(self.folder, self.job, number).stdout, "ab") as output:
                process = subprocess.Popen(
                    shlex.split(command),
                    env={**os.environ, **task, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            self.processes.append(process)
        return SubmititJob(folder=self.folder, job_id=self.job, tasks=range(len(self.environments)))


def start_local(
    payload: Payload, *, stage: StageFolder, start: Path, environments: Sequence[Mapping[str, str]]
) -> LocalJob:
    """Start one payload on this machine, as one process per entry of `environments`.

    `start` is a program that runs a module given as `-u -m MODULE` on a safe module path.

    Raises:
        RunError: a process cannot be started; none is left.
    """
    python = f"{shlex.quote(sys.executable)} -P -u {shlex.quote(str(start))}"
    executor = LocalExecutor(stage.submitit_logs, python=python, environments=environments)
    job = LocalJob(executor)
    try:
        executor.submit(payload)
    except OSError as error:
        job.kill()
        raise RunError(f"{stage.name}: a rank cannot be started: {error.strerror or error}") from None
    return job
