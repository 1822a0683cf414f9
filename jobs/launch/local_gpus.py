"""Which GPUs of this machine the ranks of a stage use: each rank sees its own and no other."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from slurm.errors import RunError
from slurm.gpus import visible_gpus


def local_gpus(run: Run, stage: Stage[Unit]) -> list[str]:
    """The GPUs that the stage's ranks share out; empty if they use the CPU.

    Raises:
        RunError: the cluster file asks for GPUs that are not here. Ranks of an array take turns, those of a training
            need one each at the same time.
    """
    cluster = run.cluster
    train = cluster.of_train(stage.name)
    if not (train.gpus if stage.distributed else cluster.of_array(stage.name).gpus):
        return []
    found = visible_gpus()
    section = "train" if stage.distributed else "array"
    if not found:
        reason = "got 1, but this machine shows no GPU; set 0 in the cluster file to use the CPU"
        raise RunError(f"{stage.name}: {section}.gpus: {reason}")
    if stage.distributed and train.world() > len(found):
        raise RunError(
            f"{stage.name}: train.ranks_per_node: got {train.world()} ranks of one GPU each, but this machine shows "
            f"{len(found)}; set {len(found)} in the cluster file, or gpus: 0 to use the CPU"
        )
    return found
