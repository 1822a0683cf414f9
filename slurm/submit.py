"""Submission through submitit: local processes or Slurm jobs that run the same payload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import submitit

from slurm.cluster import Cluster
from slurm.errors import RunError
from slurm.files import digest
from slurm.run_folder import StageFolder

NEVER = 60 * 24 * 365  # minutes; submitit's local controller wants a limit, our work has none


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What a job runs: a function by name, and the run folder it reads everything else from."""

    entry: str  # "module:function"
    run: str
    stage: str
    rank: int  # of the array; a distributed stage takes its rank from the job's environment
    ranks: int
    launcher: int | None = None  # pid that local ranks follow

    def __call__(self) -> None:
        module, _, function = self.entry.partition(":")
        getattr(import_module(module), function)(self)

    def checkpoint(self, *args: Any, **kwargs: Any) -> submitit.helpers.DelayedSubmission:
        """For a signal that comes before our own handlers are in place: just start again."""
        return submitit.helpers.DelayedSubmission(self)


def run_comment(run: Path, stage: str = "") -> str:
    """What marks the jobs of a run in the queue, also those whose id was never heard."""
    return f"cemiface:{digest(str(run))[:12]}:{stage}"


def start_local(payload: Payload, *, stage: StageFolder, ranks: int = 1) -> submitit.Job[None]:
    """Start one payload on this machine as `ranks` processes (more than one for distributed stages)."""
    executor = submitit.LocalExecutor(folder=stage.submissions)
    executor.update_parameters(timeout_min=NEVER, tasks_per_node=ranks, stderr_to_stdout=True)
    return executor.submit(payload)


def submit_slurm(
    payloads: Sequence[Payload],
    *,
    stage: StageFolder,
    cluster: Cluster,
    distributed: bool,
    after: str | None,
) -> str:
    """Submit one array job (or one distributed job) and return its job id.

    `after` is the job id that must succeed first; a job whose dependency failed is removed instead of waiting for ever.
    """
    executor = submitit.SlurmExecutor(folder=stage.submissions)
    executor.update_parameters(**slurm_parameters(stage, cluster=cluster, distributed=distributed, after=after))
    try:
        jobs = [executor.submit(payloads[0])] if distributed else executor.map_array(_call, payloads)
    except (submitit.core.utils.FailedJobError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{stage.name}: sbatch refused the job: {reason}; mend the cluster file and run again") from None
    return str(jobs[0].job_id).split("_")[0]


def slurm_parameters(
    stage: StageFolder, *, cluster: Cluster, distributed: bool, after: str | None = None
) -> dict[str, Any]:
    """The sbatch directives of a stage, in submitit's names."""
    extra: dict[str, Any] = {"requeue": True}
    if after is not None:
        extra |= {"dependency": f"afterok:{after}", "kill-on-invalid-dep": "yes"}
    site = {"partition": cluster.partition, "account": cluster.account, "qos": cluster.qos}
    common = {key: value for key, value in site.items() if value is not None}
    if cluster.constraint is not None:
        common["constraint"] = cluster.constraint
    if distributed:
        train = cluster.train
        shape: dict[str, Any] = {
            "nodes": train.nodes,
            "ntasks_per_node": train.ranks_per_node,
            "cpus_per_task": cluster.train_cpus(),
            "time": train.minutes,
            "mem": f"{train.memory_gb}GB" if train.memory_gb else None,
            "gpus_per_node": train.gpus_per_node or None,
        }
    else:
        array = cluster.array
        shape = {
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": array.cpus,
            "time": array.minutes,
            "mem": f"{array.memory_gb}GB" if array.memory_gb else None,
            "gpus_per_node": array.gpus or None,
            "array_parallelism": array.parallel or cluster.array_ranks(),
        }
    return {
        **common,
        **{key: value for key, value in shape.items() if value is not None},
        "job_name": f"{stage.root.parent.name}.{stage.name}",
        "signal_delay_s": cluster.stop_signal_seconds,
        "setup": list(cluster.setup),
        "additional_parameters": extra,
    }


def _call(payload: Payload) -> None:
    payload()
