"""Running one rank of a stage in the foreground, to see with one's own eyes how it fails."""

from __future__ import annotations

from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.launch import entry
from slurm.errors import RunError
from slurm.heartbeats import read_beats
from slurm.submission import read_submission
from slurm.submit import Payload


def ranks_of(run: Run, stage: Stage) -> int:
    """How many ranks shared the stage's units when it was last launched, 0 if it never was."""
    folder = run.stage_folder(stage.name)
    submission = read_submission(folder)
    told = [int(beat["ranks"]) for beat in read_beats(folder) if beat.get("ranks")]
    return max([*told, submission.ranks if submission else 0])


def can_rerun(run: Run, stage: Stage) -> bool:
    """Whether one rank alone can do anything: those of a distributed stage need each other."""
    return not stage.distributed or ranks_of(run, stage) <= 1


def run_rank(run: Run, stage: Stage, *, rank: int) -> None:
    """Do what is left of one rank's share in this process, as it was last launched. Exits as a job does: 0, 1 or 75.

    Raises:
        RunError: the stage was never launched, has no such rank, or its ranks work together only.
    """
    ranks = ranks_of(run, stage)
    if not ranks or not run.folder.config.exists():
        raise RunError(f"{stage.name}: has not been launched yet, so it has no ranks; run the stage first")
    launched = load_run_folder(run.folder.root).folder.root
    if launched != run.folder.root:
        raise RunError(f"{run.folder.root}: was launched as {launched}, and is a copy of it; launch it here first")
    if not can_rerun(run, stage):
        raise RunError(f"{stage.name}: its {ranks} ranks work together only; run the stage itself")
    if rank >= ranks:
        raise RunError(f"rank: got {rank}, allowed: 0 to {ranks - 1}, as {stage.name} was launched last")
    # The stage was launched with the config of the run folder, and no launcher has to be followed.
    entry.main(
        Payload(entry="jobs.launch.entry:main", run=str(run.folder.root), stage=stage.name, rank=rank, ranks=ranks)
    )
