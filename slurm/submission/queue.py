"""What Slurm knows about our jobs, through squeue, sacct and scancel; each may be missing, slow or unreadable."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

SECONDS_TO_ANSWER = 20.0

CLOCK_DIFFERENCE = 3600.0  # seconds by which the clocks of this machine and of the accounting may differ

PENDING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT", "CONFIGURING"}

RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}

# The comment may hold any text, so it comes last; the first fields are Slurm's own.
QUEUE_FIELDS = (
    *("ArrayJobID", "ArrayTaskID", "State", "RestartCnt", "exit_code", "NodeList", "Reason", "Dependency", "Cluster"),
    *("Name", "STDOUT", "Comment"),
)

ENDING = "COMPLETING"  # it ended, or was requeued, and its nodes are not free yet

ACCOUNT_FIELDS = ("JobID", "State", "ExitCode", "NodeList", "JobName")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One job, or one element of an array, as Slurm sees it."""

    job: str  # of an array: the id that sbatch gave
    index: int | None  # in the array; None for a job that is not an array
    state: str  # as Slurm names it, first word only ("CANCELLED by 1000" is CANCELLED)
    reason: str = ""
    node: str = ""
    restarts: int = 0
    exit: int = 0  # exit code of the batch script
    signal: int = 0  # that ended the job; 0: none
    comment: str = ""
    called: str = ""  # the job's name
    output: str = ""  # path of its output, with Slurm's patterns such as %A
    cluster: str = ""
    dependency: str = ""  # what it still waits for, as Slurm writes it
    earlier: tuple[str, ...] = ()  # how earlier attempts ended, oldest first; from the accounting only

    @property
    def name(self) -> str:
        """The id as Slurm's commands take it."""
        return self.job if self.index is None else f"{self.job}_{self.index}"

    @property
    def pending(self) -> bool:
        """Whether it waits in the queue."""
        return self.state in PENDING

    @property
    def running(self) -> bool:
        """Whether it has nodes."""
        return self.state in RUNNING

    @property
    def alive(self) -> bool:
        """Whether it waits, or runs and is not about to leave."""
        return self.pending or (self.running and self.state != ENDING)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Tasks by job and index; `no_answer` is the reason if Slurm gave no answer."""

    tasks: dict[tuple[str, int | None], Task] = field(default_factory=dict)
    no_answer: str | None = None


def ask_queue(*, seconds: float | None = None) -> Answer:
    """All jobs of this user that Slurm remembers: queued, running, and for some minutes ended ones.

    `seconds`: how long to wait for the answer at most.
    """
    fields = ",".join(f"{name}:|" for name in QUEUE_FIELDS)
    return _ask(
        "squeue", "--noheader", "--me", "--array", "--states=all", f"--Format={fields}", parse=_queued, seconds=seconds
    )


def ask_accounting(jobs: Sequence[str], *, since: float, seconds: float | None = None) -> Answer:
    """How `jobs` and their earlier attempts ended.

    `since`: when they were submitted, in seconds since the epoch; `seconds`: as for `ask_queue`.
    """
    day = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - CLOCK_DIFFERENCE))
    options = ("--allocations", "--duplicates", "--noheader", "--parsable2", f"--starttime={day}")
    what = (f"--jobs={','.join(jobs)}", f"--format={','.join(ACCOUNT_FIELDS)}")
    return _ask("sacct", *options, *what, parse=_accounted, seconds=seconds)


def scancel(jobs: Sequence[str]) -> str | None:
    """Ask Slurm to end `jobs`; returns why that failed, None if it succeeded."""
    return call("scancel", *jobs)[1]


def _ask(tool: str, *options: str, parse: Callable[[str], Task | None], seconds: float | None) -> Answer:
    output, problem = call(tool, *options, seconds=seconds)
    if problem is not None:
        return Answer(no_answer=problem)
    lines = [line for line in output.splitlines() if line.strip()]
    tasks: dict[tuple[str, int | None], Task] = {}
    for task in map(parse, lines):
        if task is None:
            continue
        before = tasks.get((task.job, task.index))
        if before is not None:  # a later attempt of the same job
            task = replace(task, earlier=(*before.earlier, before.state))
        tasks[task.job, task.index] = task
    if lines and not tasks:
        return Answer(no_answer=f"{tool} gave an answer that cannot be read: {lines[0][:60]!r}")
    return Answer(tasks=tasks)


def call(tool: str, *options: str, seconds: float | None = None) -> tuple[str, str | None]:
    """What one of Slurm's commands printed, and what went wrong in one line, None if nothing did."""
    seconds = seconds or SECONDS_TO_ANSWER
    # A user's SQUEUE_FORMAT or SACCT_FORMAT would change the answer.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    try:
        done = subprocess.run(
            [tool, *options],
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**environment, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return "", f"{tool} did not answer within {max(1.0, seconds):.0f} s"
    except FileNotFoundError:
        return "", f"there is no {tool} on this machine"
    except OSError as error:
        return "", f"{tool} cannot be run: {error.strerror}"
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        return "", f"{tool} refused: {reason[0]}"
    return done.stdout.decode(errors="replace"), None


def _queued(line: str) -> Task | None:
    fields = line.split("|", maxsplit=len(QUEUE_FIELDS) - 1)
    if len(fields) < len(QUEUE_FIELDS):
        return None
    job, index, state, restarts, status, node, reason, dependency, cluster, called, output, comment = fields
    if not (job.isdecimal() and state and restarts.isdecimal() and status.isdecimal()):
        return None
    return Task(
        job=job,
        index=int(index) if index.isdecimal() else None,
        state=state,
        reason="" if reason == "None" else reason,
        node=node,
        restarts=int(restarts),
        exit=int(status) >> 8,  # encoded as by wait(2)
        signal=int(status) & 0x7F,
        comment=comment.rstrip("|"),
        called=called,
        output=output,
        cluster=cluster,
        dependency="" if dependency == "(null)" else dependency,
    )


def _accounted(line: str) -> Task | None:
    # Pending elements of an array share one line, 12_[3-7], which is skipped: squeue lists each of them.
    fields = [*line.split("|", maxsplit=len(ACCOUNT_FIELDS) - 1), ""]
    name = re.fullmatch(r"(\d+)(?:_(\d+))?", fields[0])
    status = re.fullmatch(r"(\d+):(\d+)", fields[2]) if len(fields) >= len(ACCOUNT_FIELDS) else None
    if name is None or status is None or not fields[1]:
        return None
    return Task(
        job=name[1],
        index=int(name[2]) if name[2] else None,
        state=fields[1].split()[0],
        node="" if fields[3] == "None assigned" else fields[3],
        exit=int(status[1]),
        signal=int(status[2]),
        called=fields[4],
    )
