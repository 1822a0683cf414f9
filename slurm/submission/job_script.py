"""Job scripts as sbatch gets them: the directives of each job, written out by submitit."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit

from slurm.cluster import Cluster, TrainResources
from slurm.run_folder import StageFolder
from slurm.submission.slurm_job import SlurmJob

SETUP = 78  # EX_CONFIG: exit code of a job of which a line of `setup` failed

SETUP_FAILED = "cemiface: a line of setup in the cluster file failed"


class JobExecutor(submitit.SlurmExecutor):  # type: ignore[misc]  # submitit has no types
    """submitit's Slurm executor, which also works where no Slurm is installed.

    submitit's own refuses to start without `srun`, by a negative affinity. But a dry run prints scripts on any machine,
    and a launch without Slurm should fail with our message, which says what to do.
    """

    @classmethod
    def affinity(cls) -> int:
        """How well this machine suits the executor; positive: it may be used."""
        return 1


def script(*, stage: StageFolder, parameters: dict[str, Any], tasks: int, code: Path) -> str:
    """The text of a job script; needs no Slurm."""
    executor = JobExecutor(folder=stage.submitit_logs, python=python_of(code))
    executor.update_parameters(**parameters)
    if tasks > 1:
        executor.parameters["map_count"] = tasks  # as `map_array` sets it
    # These two are private. submitit has no public way to render a script without submitting it, and a copy of its
    # template would differ from what it submits. tests/slurm/test_submitit.py fails if they change.
    text: str = executor._make_submission_file_text(executor._submitit_command_str, uid="")
    return text


def python_of(code: Path) -> str:
    """The command that starts python in a job: through `start.py` of the code snapshot."""
    return f"{shlex.quote(sys.executable)} -S -E {shlex.quote(str(code / 'slurm' / 'start.py'))}"


def slurm_parameters(
    job: SlurmJob,
    *,
    stage: StageFolder,
    cluster: Cluster,
    comment: str,
    dependency: str = "",
) -> dict[str, Any]:
    """The sbatch directives of a job, by submitit's names."""
    distributed = job.kind == "distributed"
    resources = cluster.of_train(stage.name) if distributed else cluster.of_array(stage.name)
    node_ranks = resources.ranks_per_node if isinstance(resources, TrainResources) else job.ranks_per_task
    exports = [f"export {name}={shlex.quote(value)}" for name, value in resources.environment.items()]
    parameters: dict[str, Any] = {
        "job_name": f"{stage.root.parent.name}.{stage.name}",
        "comment": comment,
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "exclude": resources.exclude,
        "nodes": resources.nodes if isinstance(resources, TrainResources) else 1,
        "ntasks_per_node": node_ranks,
        "cpus_per_task": cluster.threads(resources),
        "gpus_per_node": node_ranks * resources.gpus or None,
        "mem": f"{node_ranks * resources.memory_gb}GB" if resources.memory_gb else None,
        "time": resources.minutes,
        "signal_delay_s": cluster.stop_signal_seconds,
        "setup": [*exports, *_checked(resources.setup)],
        # Since Slurm 22.05 srun does not take over --cpus-per-task of the job. If a rank of a process group fails,
        # the others must end too; independent ranks of one task finish their work.
        "srun_args": [f"--cpus-per-task={cluster.threads(resources)}", f"--kill-on-bad-exit={int(distributed)}"],
        "additional_parameters": _additional(dependency),
    }
    if job.kind == "array":
        at_once = getattr(resources, "parallel", None) or job.ranks
        parameters["array_parallelism"] = -(-at_once // job.ranks_per_task)
    given = {name: value for name, value in parameters.items() if value is not None}
    return given | {"wckey": None}  # submitit's default, "submitit", is refused by sites that check wckeys


def _checked(lines: Sequence[str]) -> list[str]:
    """The lines of `setup`, each of which ends the job if it fails; else ranks would start without what it sets up."""
    if not lines:
        return []
    tell = f'echo "{SETUP_FAILED} (exit code $1): $2" >&2'
    checked = [f"eval {shlex.quote(line)} || cemiface_failed $? {shlex.quote(line)}" for line in lines]
    return [f"cemiface_failed() {{ {tell}; exit {SETUP}; }}", *checked]


def _additional(dependency: str) -> dict[str, Any]:
    """Directives that submitit has no name for. A job whose dependency failed is removed instead of waiting forever."""
    if not dependency:
        return {"requeue": True}
    return {"requeue": True, "dependency": dependency, "kill-on-invalid-dep": "yes"}
