"""The process group of a training."""

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

START_TIMEOUT = timedelta(minutes=10)  # between the starts of the first rank and the last


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the processes that train one net together."""

    rank: int
    size: int
    device: torch.device

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over all ranks, computed in place; all ranks must call it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def autocast(self, precision: Precision = "auto") -> torch.autocast:
        """See `jobs.training.device.autocast`."""
        return autocast(self.device, precision)


def join(rank: Rank) -> World:
    """Join the process group of a distributed stage; sets threads, deterministic kernels and the CUDA device.

    Raises:
        ModelError: rank 0 did not start within ten minutes.
        RunError: the rank should have a GPU of its own and sees none.
    """
    device = rank_device(rank)  # before the others wait for this one
    environment = submitit.JobEnvironment()
    size = rank.count
    address = "127.0.0.1" if environment.num_nodes == 1 else environment.hostnames[0]
    store = rendezvous(rank, address=address)
    os.environ |= {
        "RANK": str(rank.index),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(environment.local_rank if device.index is None else device.index),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(store.port),
        "DS_ACCELERATOR": device.type,
    }
    dist.init_process_group(_backend(device), store=store, rank=rank.index, world_size=size, timeout=START_TIMEOUT)
    return World(rank=rank.index, size=size, device=device)


def join_alone(rank: Rank) -> World:
    """A process group of one, for a rank of an array that trains a net by itself."""
    device = rank_device(rank)
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": str(device.index or 0), "DS_ACCELERATOR": device.type}
    if not dist.is_initialized():  # a rank with several units calls this for each
        dist.init_process_group(_backend(device), store=dist.HashStore(), rank=0, world_size=1)
    return World(rank=0, size=1, device=device)


def _backend(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"


def rendezvous(rank: Rank, *, address: str) -> dist.TCPStore:
    """The store through which the ranks of this attempt find each other.

    Rank 0 listens on a free port and publishes its number in the run folder with the name of the attempt, so a requeued
    job cannot connect to an earlier attempt, and other jobs cannot hold the port. A rank that is asked to stop here
    still joins, as the others would wait for it; all ranks then stop together before the first step.

    Raises:
        ModelError: rank 0 did not publish a port in time.
    """
    here = this_worker(rank.index)
    attempt = f"{here.job}/{here.restarts}"
    path = rank.folder.rendezvous
    if rank.index == 0:
        store = dist.TCPStore(address, 0, rank.count, is_master=True, wait_for_workers=False, timeout=START_TIMEOUT)
        publish_json(path, {"attempt": attempt, "port": store.port}, replace=True)
        return store
    deadline = time.monotonic() + START_TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        published = read_json(path)
        if isinstance(published, dict) and published["attempt"] == attempt:
            return dist.TCPStore(address, published["port"], rank.count, wait_for_workers=False, timeout=START_TIMEOUT)
        time.sleep(0.1)
    raise ModelError(f"{rank.stage.name} rank {rank.index}: no answer from rank 0 at {address}; see its log")
