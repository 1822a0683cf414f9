"""`cemiface run-rank`: run one rank of a stage in the foreground, e.g. to see why it fails."""

from __future__ import annotations

from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch import entry
from jobs.launch.code import ENTRY
from slurm.errors import RunError
from slurm.ranks.heartbeats import read_heartbeats
from slurm.submission.job_record import read_job_record
from slurm.submission.payload import Payload


def ranks_of(run: Run, stage: Stage[Unit]) -> int:
    """How many ranks shared the stage in its last launch; 0 if it was never launched."""
    folder = run.stage_folder(stage.name)
    record = read_job_record(folder)
    reported = [heartbeat.ranks or 0 for heartbeat in read_heartbeats(folder)]
    return max([*reported, record.ranks if record else 0])


def can_rerun(run: Run, stage: Stage[Unit]) -> bool:
    """Whether one rank can run alone. Ranks of a distributed stage can only run together."""
    return not stage.distributed or ranks_of(run, stage) <= 1


def run_rank(run: Run, stage: Stage[Unit], *, rank: int) -> None:
    """Do the unfinished units of one rank in this process, with the config of the last launch. Exits like a job.

    Raises:
        RunError: the stage was never launched, has no such rank, or its ranks can only run together.
    """
    ranks = ranks_of(run, stage)
    if not ranks or not run.folder.config.exists():
        raise RunError(f"{stage.name}: has not been launched yet, so it has no ranks; run the stage first")
    launched = load_run_folder(run.folder.root).folder.root
    if launched != run.folder.root:
        raise RunError(f"{run.folder.root}: is a copy of {launched}; launch it here first")
    if not can_rerun(run, stage):
        raise RunError(f"{stage.name}: its {ranks} ranks can only run together; run the stage itself")
    if rank >= ranks:
        raise RunError(f"rank: got {rank}, allowed: 0 to {ranks - 1} in the last launch of {stage.name}")
    # No `launcher`: there is no launching process to follow.
    entry.main(Payload(entry=ENTRY, run=str(run.folder.root), stage=stage.name, rank=rank, ranks=ranks))
