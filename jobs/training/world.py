"""What the training stages share: the process group, the DeepSpeed engine, the look around at each step, metrics.

DeepSpeed runs at ZeRO stage 0 in fp32 (bf16 by autocast on GPUs): the nets fit every GPU many times over, and one
whole state resumes on any number of ranks.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta

import submitit
import torch
import torch.distributed as dist
from torch import Tensor

from cemiface.errors import ModelError
from jobs.frame.rank import Rank
from jobs.frame.stage_config import Precision
from jobs.training.device import autocast, rank_device
from slurm.files import publish_json, read_json
from slurm.ranks.worker import this_worker

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
    here = this_worker(rank.index)
    attempt = f"{here.job}/{here.restarts}"
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
