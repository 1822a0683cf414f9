"""What the training stages share: the process group, the DeepSpeed engine, the look around at each step, metrics.

DeepSpeed runs at ZeRO stage 0 in fp32 (bf16 by autocast on GPUs): the nets fit every GPU many times over, and one
whole state resumes on any number of ranks.
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import submitit
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cemiface.errors import ModelError
from jobs.device import Precision, autocast, rank_device
from slurm.beats import this_worker
from slurm.files import publish, publish_json, read_json
from slurm.stop import Stopped

if TYPE_CHECKING:
    from jobs.rank import Rank
    from jobs.training_state import TrainingState

MEETING = timedelta(minutes=10)  # from the start of the first rank to the start of the last


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the ranks of a distributed stage."""

    rank: int
    size: int
    device: torch.device

    def total(self, values: Tensor) -> Tensor:
        """The sum of a small tensor over all ranks."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def autocast(self, precision: Precision = "auto") -> torch.autocast:
        return autocast(self.device, precision)


def join(rank: Rank) -> World:
    """Take part in the job's process group and fix everything results depend on.

    One thread count, deterministic kernels, and a rendezvous of its own for every attempt.
    """
    environment = submitit.JobEnvironment()
    local_rank, size = environment.local_rank, rank.count
    address = "127.0.0.1" if environment.num_nodes == 1 else environment.hostnames[0]
    store = meet(rank, address=address)
    os.environ |= {
        "RANK": str(rank.index),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(local_rank),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(store.port),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    cuda = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    cluster = rank.run.cluster
    torch.set_num_threads(cluster.threads(cluster.of_train(rank.stage.name)))
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank.index, world_size=size, timeout=MEETING)
    return World(rank=rank.index, size=size, device=device)


def join_alone(rank: Rank) -> World:
    """A world of one: a rank of an array whose unit is a training of its own."""
    device = rank_device(rank)
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": str(device.index or 0)}
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():  # by the unit before
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return World(rank=0, size=1, device=device)


def meet(rank: Rank, *, address: str) -> dist.TCPStore:
    """The store through which the ranks of this attempt find each other.

    Rank 0 listens on whatever port is free and leaves its number in the run folder, under the name of the attempt: a
    requeued job never meets the remains of the last one, and no other job's port is in the way. A rank that is asked to
    stop meanwhile still comes: one that left alone would be waited for; all stop together before the first step.

    Raises:
        ModelError: rank 0 did not come.
    """
    here = this_worker()
    attempt = f"{here['job']}/{here['restarts']}"
    path = rank.folder.rendezvous
    if rank.index == 0:
        store = dist.TCPStore(address, 0, rank.count, is_master=True, wait_for_workers=False, timeout=MEETING)
        publish_json(path, {"attempt": attempt, "port": store.port}, replace=True)
        return store
    deadline = time.monotonic() + MEETING.total_seconds()
    while time.monotonic() < deadline:
        told = read_json(path)
        if isinstance(told, dict) and told["attempt"] == attempt:
            return dist.TCPStore(address, told["port"], rank.count, wait_for_workers=False, timeout=MEETING)
        time.sleep(0.1)
    raise ModelError(f"{rank.stage.name} rank {rank.index}: rank 0 at {address} did not come; see its log")


def start_engine(
    module: nn.Module,
    *,
    optimizer: torch.optim.Optimizer,
    batch: int,
    gradient_clipping: float,
    world: World,
    micro_batch: int | None = None,
) -> Any:
    """A DeepSpeed engine over `module`; `batch` is global, `micro_batch` what one rank takes at a time (None: all).

    Raises:
        ModelError: the batch does not divide by the number of ranks, or a rank's share by the micro batch.
    """
    share, rest = divmod(batch, world.size)
    if rest:
        raise ModelError(f"batch: got {batch} for {world.size} ranks, allowed: a multiple of the number of ranks")
    micro = micro_batch or share
    if share % micro:
        raise ModelError(f"micro_batch: got {micro} for a share of {share} images per rank, allowed: a divisor of it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # On CPUs DeepSpeed would compile this communication op for two minutes before the first step; gloo does as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        config={
            "train_batch_size": batch,
            "train_micro_batch_size_per_gpu": micro,
            "gradient_accumulation_steps": share // micro,
            "gradient_clipping": gradient_clipping,
            "zero_optimization": {"stage": 0},
            "steps_per_print": 1_000_000_000,
        },
    )
    return engine


class Watch:
    """Looked at once per step: does any rank have to stop, is a checkpoint due, is the loss still a number?"""

    def __init__(self, rank: Rank, world: World, *, total: int) -> None:
        self.rank, self.world, self.total = rank, world, total
        self.earlier = 0 if rank.stage.distributed else rank.images  # of trainings before, where each unit is one

    def between_steps(self, state: TrainingState, *, images: int, batch: int, every: int) -> None:
        """Save where a step crossed a multiple of `every` images; save and leave if any rank was asked to stop.

        Raises:
            Stopped: on all ranks alike.
        """
        due = torch.tensor([float(self.rank.stop.due())], device=self.world.device)
        stop = bool(self.world.total(due).item())
        if stop or crossed(images, batch, every=every):
            state.save(images)
        if stop:
            raise Stopped(self.rank.stop.reason or "another rank was asked to stop")

    def loss(self, loss: Tensor, *, images: int) -> float:
        """The mean loss over the ranks, as a number, with a heartbeat.

        Raises:
            ModelError: it is not finite; the last checkpoint is untouched.
        """
        value = float(self.world.total(loss.detach().float().clone()).item()) / self.world.size
        if not torch.isfinite(torch.tensor(value)):
            raise ModelError(
                f"{self.rank.stage.name}: the loss is {value} after {images} images; "
                "lower the learning rate; the last checkpoint is whole"
            )
        self.rank.images = self.earlier + images
        self.rank.beat.update(images=self.rank.images, total=self.total, note=f"loss {value:.4f}")
        return value


def crossed(images: int, batch: int, *, every: int) -> bool:
    """Whether the last batch took the count over a multiple of `every`."""
    return images > 0 and images // every > (images - batch) // every


class Metrics:
    """`metrics.jsonl`: one JSON object per line. Lines past the resumed checkpoint are dropped, never doubled."""

    def __init__(self, path: Path, *, images: int) -> None:
        kept = [line for line in _lines(path) if json.loads(line)["images"] <= images]
        publish(path, "".join(line + "\n" for line in kept).encode(), replace=True)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 (lives as long as the training)

    def write(self, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps(values) + "\n")


def _lines(path: Path) -> Iterable[str]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [line for line in lines if line.endswith("}")]  # a killed writer may leave half a line
