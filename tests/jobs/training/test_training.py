"""What the training stages share, in one process: metrics after a kill, ports, the state that comes back."""
# ruff: noqa: N802

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from jobs.training.metrics import Metrics
from jobs.training.state import TrainingState
from jobs.training.world import World
from slurm.checkpoints import Checkpoints
from slurm.errors import RunError


def _lines(path: Path) -> list[int]:
    return [json.loads(line)["images"] for line in path.read_text().splitlines()]


def test_lines_past_the_checkpoint_and_half_lines_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"images": 8, "loss": 1.0}\n{"images": 16, "loss": 0.5}\n{"images": 24, "loss": 0.2}\n{"imag')
    metrics = Metrics(path, images=16)
    metrics.write({"images": 24, "loss": 0.3})
    assert _lines(path) == [8, 16, 24]
    assert "0.2" not in path.read_text()


def test_a_training_from_the_beginning_starts_with_empty_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"images": 8, "loss": 1.0}\n')
    Metrics(path, images=0)
    assert _lines(path) == []


def _state(folder: Path, *, seed: int, momentum: float = 0.9) -> TrainingState:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)
    world = World(rank=0, size=1, device=torch.device("cpu"))
    return TrainingState(Checkpoints(folder, key="k"), modules={"net": net}, optimizer=optimizer, world=world)


def _step(state: TrainingState) -> None:
    x = torch.arange(15.0).reshape(5, 3).cos()
    state.optimizer.zero_grad()
    state.modules["net"](x).square().mean().backward()
    state.optimizer.step()


def test_a_restored_state_continues_bit_for_bit(tmp_path: Path) -> None:
    state = _state(tmp_path, seed=1)
    _step(state)
    state.save(8)
    _step(state)

    again = _state(tmp_path, seed=2)
    assert again.restore() == 8
    _step(again)
    wanted, found = (one.modules["net"].state_dict() for one in (state, again))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert again.earlier_seconds > 0


def test_without_checkpoint_a_state_begins_at_zero_images(tmp_path: Path) -> None:
    assert _state(tmp_path, seed=1).restore() == 0


def test_F33_a_training_whose_only_checkpoint_is_damaged_does_not_restart_from_zero(tmp_path: Path) -> None:
    state = _state(tmp_path, seed=1)
    state.save(8)
    (tmp_path / "step-000000000008" / "state.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"no whole checkpoint is left \(step-000000000008: state.safetensors"):
        state.restore()


def _restored(rank: int, folders: list[Path], rendezvous: str, results: multiprocessing.Queue[tuple[int, int]]) -> None:
    """One of two ranks, each with its own view of the checkpoints."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    state = _state(folders[rank], seed=rank)
    state.world = World(rank=rank, size=2, device=torch.device("cpu"))
    results.put((rank, state.restore()))
    dist.destroy_process_group()


def test_F36_ranks_that_see_different_newest_checkpoints_take_the_one_of_rank_0(tmp_path: Path) -> None:
    folders = [tmp_path / "seen-by-0", tmp_path / "seen-by-1"]
    state = _state(folders[0], seed=1)
    state.save(8)
    shutil.copytree(folders[0], folders[1])
    _step(state)
    state.checkpoints.folder = folders[1]
    state.save(16)  # rank 0 looked before it was there
    processes = multiprocessing.get_context("forkserver")
    results = processes.Queue()
    ranks = [processes.Process(target=_restored, args=(rank, folders, str(tmp_path / "m"), results)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    assert sorted(results.get(timeout=300) for _ in ranks) == [(0, 8), (1, 8)]
    for rank in ranks:
        rank.join(timeout=300)
        assert rank.exitcode == 0
