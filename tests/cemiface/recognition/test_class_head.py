"""The class head over processes: the same loss, gradients and state on any number of ranks."""
# ruff: noqa: N802

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from cemiface.errors import ModelError
from cemiface.recognition.class_head import (
    ClassHead,
    TrainedHead,
    check_labels,
    initial_centers,
    part_of,
    sample_classes,
)
from cemiface.recognition.config import MarginConfig
from cemiface.recognition.sync_norm import synchronized

CLASSES, EMBEDDING, BATCH = 37, 8, 12


def _steps(rank: int, size: int, folder: str, config: MarginConfig, first: int, last: int, resume: str) -> None:
    """Train a small net and the head for some steps, as the engine would: its gradients averaged over the ranks."""
    torch.set_num_threads(1)
    if size > 1:
        meeting = f"file://{folder}/meet-{size}-{first}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    net = nn.Sequential(nn.Linear(6, EMBEDDING, bias=False), nn.BatchNorm1d(EMBEDDING))
    net[0].weight.data = torch.arange(48.0).reshape(EMBEDDING, 6).sin()
    net = synchronized(net, device=torch.device("cpu")) if size > 1 else net
    head = ClassHead(CLASSES, EMBEDDING, config, seed=5, rank=rank, size=size)
    trained = TrainedHead(head, learning_rate=0.1, momentum=0.9, weight_decay=1e-3)
    if resume:
        whole = safetensors.torch.load_file(resume)
        net.load_state_dict({name: whole.pop(f"net.{name}") for name in net.state_dict()})
        trained.restore(whole)
    losses = []
    for step in range(first, last):
        draw = torch.Generator().manual_seed(step)
        x, labels = torch.randn(BATCH, 6, generator=draw), torch.randint(CLASSES, (BATCH,), generator=draw)
        mine = slice(*part_of(BATCH, rank=rank, size=size))
        found = head(net(x[mine]), labels[mine], step=step)
        net.zero_grad()
        found.loss.backward()
        for parameter in net.parameters():
            if size > 1:
                dist.all_reduce(parameter.grad)
            parameter.data -= 0.1 * parameter.grad / size
        trained.step(learning_rate=0.1)
        losses.append(found.loss.detach())
    whole = trained.gathered()
    assert bool(whole) == (rank == 0)
    if rank == 0:
        state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
        path = f"{folder}/{size}-{last}.safetensors"
        safetensors.torch.save_file({**whole, **state, "losses": torch.stack(losses)}, path)
    if size > 1:
        dist.destroy_process_group()


def _run(folder: Path, *, size: int, config: MarginConfig, first: int = 0, last: int, resume: str = "") -> dict:
    arguments = (size, str(folder), config, first, last, resume)
    mp.spawn(_steps, args=arguments, nprocs=size) if size > 1 else _steps(0, *arguments)
    return safetensors.torch.load_file(folder / f"{size}-{last}.safetensors")


COSFACE = MarginConfig(scale=16, margin=0.3)
ADAFACE = MarginConfig(kind="adaface", scale=16, margin=0.3, sample_rate=0.4)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [(ADAFACE, (1,)), pytest.param(COSFACE, (1, 3), marks=pytest.mark.long)],
    ids=["adaface, sampled, 1 rank", "cosface, 1 and 3 ranks"],
)
def test_F35_a_head_saved_on_2_ranks_resumes_with_the_same_losses(tmp_path: Path, config, sizes) -> None:
    alone = _run(tmp_path, size=1, config=config, last=6)
    half = _run(tmp_path, size=2, config=config, last=3)
    torch.testing.assert_close(half["losses"], alone["losses"][:3])
    for size in sizes:
        resumed = _run(tmp_path, size=size, config=config, first=3, last=6, resume=str(tmp_path / "2-3.safetensors"))
        assert set(resumed) == set(alone)
        torch.testing.assert_close(resumed.pop("losses"), alone["losses"][3:])
        for name, value in resumed.items():
            torch.testing.assert_close(value, alone[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_initial_centers_do_not_depend_on_the_ranks(size):
    whole = initial_centers(0, 2500, embedding=3, seed=1)
    parts = [part_of(2500, rank=rank, size=size) for rank in range(size)]
    assert torch.equal(torch.cat([initial_centers(*part, embedding=3, seed=1) for part in parts]), whole)
    assert whole.std().item() == pytest.approx(0.01, rel=0.05)
    assert len(whole.unique(dim=0)) == 2500
    assert not torch.equal(initial_centers(0, 5, embedding=3, seed=2), whole[:5])


def test_sampled_classes_are_those_present_and_others_by_chance():
    labels = torch.tensor([3, 3, 99, 41])
    counts = torch.zeros(100)
    for step in range(400):
        chosen = sample_classes(labels, classes=100, rate=0.2, seed=1, step=step)
        assert len(chosen) == 20
        assert set(labels.tolist()) <= set(chosen.tolist())
        assert torch.equal(chosen, chosen.unique())
        counts[chosen] += 1
    others = counts[[label for label in range(100) if label not in (3, 41, 99)]]
    assert others.mean().item() == pytest.approx(400 * 17 / 97)
    assert (others - others.mean()).abs().max() < 5 * (400 * 17 / 97) ** 0.5


def test_more_classes_in_a_batch_than_the_rate_allows_are_all_taken():
    chosen = sample_classes(torch.arange(30), classes=100, rate=0.1, seed=1, step=0)
    assert chosen.tolist() == list(range(30))


def test_fewer_classes_than_ranks_are_refused():
    with pytest.raises(ModelError, match="classes: got 2 for 3 ranks"):
        ClassHead(2, 4, MarginConfig(), seed=0, rank=0, size=3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 5, 7]), "got 5 for image 2, and 1 more like it; allowed: 0 to 4 for 5 classes"),
        (torch.tensor([0, -1]), "got -1 for image 1, and 0 more"),
        (torch.tensor([0.0, 1.0]), "got torch.float32, allowed: int64"),
    ],
)
def test_B32_labels_outside_the_classes_are_refused_before_any_kernel_runs(labels, message):
    with pytest.raises(ModelError, match=message):
        check_labels(labels, classes=5)
