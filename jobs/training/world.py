"""The process group of a training."""

from __future__ import annotations

import os
import time
from contextlib import suppress
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

CONNECT_TIMEOUT = timedelta(seconds=10)  # of one try to reach rank 0

SECONDS_TO_LEAVE = 5.0  # for ranks that are here, from the stop of one to the end of all


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
        Stopped, ModelError, dist.DistError: see `rendezvous`.
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
    """The store through which the ranks of this attempt find each other, once all of them are here.

    Rank 0 listens on a free port and publishes its number in the run folder with the name of the attempt, so a requeued
    job cannot connect to an earlier attempt, and other jobs cannot hold the port.

    A stop before the last rank has come ends the attempt for all, as that rank may wait for its lock or files and leave
    without coming here. After that no rank leaves alone; all stop together before the first step.

    Raises:
        Stopped: a rank was asked to stop before all were here.
        ModelError: rank 0 did not publish a port in time.
        dist.DistError: another rank is gone, or did not come within ten minutes.
    """
    deadline = time.monotonic() + START_TIMEOUT.total_seconds()
    try:
        store = _store(rank, address=address, deadline=deadline)
        _meet(rank, store, deadline=deadline)
    except dist.DistError:
        rank.stop.check()  # rank 0, with the store, has left for the same reason
        raise
    rank.heartbeat.update(note=None)
    return store


def _store(rank: Rank, *, address: str, deadline: float) -> dist.TCPStore:
    here = this_worker(rank.index)
    attempt = f"{here.job}/{here.restarts}"
    path = rank.folder.rendezvous
    if rank.index == 0:
        store = dist.TCPStore(address, 0, rank.count, is_master=True, wait_for_workers=False, timeout=START_TIMEOUT)
        publish_json(path, {"attempt": attempt, "port": store.port}, replace=True)
        return store
    while time.monotonic() < deadline:
        rank.stop.check()
        published = read_json(path)
        if isinstance(published, dict) and published["attempt"] == attempt:
            with suppress(dist.DistNetworkError):  # rank 0 may be gone; a longer wait would not notice a stop
                store = dist.TCPStore(
                    address, published["port"], rank.count, wait_for_workers=False, timeout=CONNECT_TIMEOUT
                )
                store.set_timeout(START_TIMEOUT)
                return store
        rank.heartbeat.update(note="waits for rank 0")
        time.sleep(0.1)
    raise ModelError(f"{rank.stage.name} rank {rank.index}: no answer from rank 0 at {address}; see its log")


def _meet(rank: Rank, store: dist.TCPStore, *, deadline: float) -> None:
    """Wait until all ranks are here. The first verdict that a rank puts into the store holds for all."""
    last = store.add("here", 1) == rank.count
    while not store.check(["verdict"]):
        if last or rank.stop.due():
            store.compare_set("verdict", "", "start" if last else "leave")
            break
        if time.monotonic() >= deadline:
            raise dist.DistStoreError(f"only {store.add('here', 0)} of {rank.count} ranks came within {START_TIMEOUT}")
        rank.heartbeat.update(note=f"waits for other ranks: {store.add('here', 0)} of {rank.count} are here")
        time.sleep(0.1)
    if store.get("verdict") == b"leave":
        _leave_last(rank, store)
        rank.stop.ask("another rank was asked to stop")
        rank.stop.check()


def _leave_last(rank: Rank, store: dist.TCPStore) -> None:
    """Rank 0, whose process holds the store, gives those who are here the time to read the verdict."""
    left, deadline = store.add("left", 1), time.monotonic() + SECONDS_TO_LEAVE
    while rank.index == 0 and left < store.add("here", 0) and time.monotonic() < deadline:
        time.sleep(0.1)
        left = store.add("left", 0)
