"""The class centers of margin softmax, split over the ranks of a training, and the loss over all classes.

Partial FC (An et al. 2022, arXiv 2203.15565): each rank holds a part of the classes and computes its part of the logits
for the embeddings of all ranks; only embeddings, maxima, sums and the gradient of the embeddings are exchanged.
With `sample_rate` below 1, each step uses a sample of the classes. It depends on (seed, step) alone, so the loss does
not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.errors import ModelError
from cemiface.recognition.config import MarginConfig
from cemiface.recognition.margins import build_margin

ROWS = 1024  # centers drawn by one generator
INITIAL_STD = 0.01
ALWAYS = 2.0  # above every uniform number, so such a class is always chosen


@dataclass(frozen=True, kw_only=True)
class HeadLoss:
    """Loss of the global batch, equal on all ranks.

    Attributes:
        hits: the fraction whose true logit, after the margin, is the largest: the training accuracy.
    """

    loss: Tensor
    hits: Tensor


def check_labels(labels: Tensor, *, classes: int) -> None:
    """Raise ModelError for labels outside 0 to classes - 1; called on the CPU, as on a GPU a kernel would abort."""
    if labels.dtype != torch.int64:
        raise ModelError(f"labels: got {labels.dtype}, allowed: int64")
    bad = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        raise ModelError(
            f"labels: got {int(labels[row])} for image {row}, and {len(bad) - 1} more like it; "
            f"allowed: 0 to {classes - 1} for {classes} classes"
        )


class ClassHead(nn.Module):
    """Centers of this rank's classes: the r-th of `size` nearly equal runs of consecutive classes."""

    def __init__(
        self, classes: int, embedding: int, margin: MarginConfig, *, seed: int, rank: int = 0, size: int = 1
    ) -> None:
        super().__init__()
        if classes < size:
            raise ModelError(f"classes: got {classes} for {size} ranks; allowed: a class per rank; use fewer ranks")
        self.classes, self.config, self.seed, self.rank, self.size = classes, margin, seed, rank, size
        self.first, self.last = part_of(classes, rank=rank, size=size)
        self.weight = nn.Parameter(initial_centers(self.first, self.last, embedding=embedding, seed=seed))
        self.margin = build_margin(margin)

    def forward(self, embeddings: Tensor, labels: Tensor, *, step: int = 0) -> HeadLoss:
        """Margin softmax loss of the global batch, for this rank's embeddings (n, E) and labels (n,).

        Collective. Computed in float32, under any autocast. The gradient of the embeddings is multiplied by `size`,
        because the backbone's engine averages over ranks; the gradient of the centers is exact.
        """
        logits, target = self.logits(embeddings, labels, step=step)
        loss, hits = _CrossEntropy.apply(logits, target, self.size)  # type: ignore[no-untyped-call]  # torch's apply has no types
        return HeadLoss(loss=loss, hits=hits)

    def logits(self, embeddings: Tensor, labels: Tensor, *, step: int = 0) -> tuple[Tensor, Tensor]:
        """Logits (N, c) of all ranks' images for this rank's classes; each image's column, -1 if on another rank."""
        with torch.autocast(embeddings.device.type, enabled=False):
            x = _GatherRows.apply(embeddings.float(), self.rank, self.size)  # type: ignore[no-untyped-call]  # torch's apply has no types
            y = gather_rows(labels, size=self.size)
            centers, target = self._sampled(y, step=step)
            cosine = F.linear(F.normalize(x), F.normalize(centers))
            rows = (target >= 0).nonzero().flatten()  # images whose class is on this rank
            columns = target[rows]
            lowered = self._lowered(cosine[rows, columns], x.norm(dim=1), rows=rows)
            logits = self.config.scale * cosine
            logits[rows, columns] = self.config.scale * lowered
            return logits, target

    def _lowered(self, cosine: Tensor, norm: Tensor, *, rows: Tensor) -> Tensor:
        """Apply the margin to this rank's true cosines; AdaFace's moments use the whole batch on every rank."""
        whole = torch.zeros_like(norm).index_put((rows,), cosine)
        lowered: Tensor = self.margin(whole, norm)[rows]
        return lowered

    def _sampled(self, labels: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        """This rank's centers of the step (c, E), and for each label its row among them, -1 if on another rank."""
        if self.config.sample_rate == 1:
            here = (labels >= self.first) & (labels < self.last)
            return self.weight, torch.where(here, labels - self.first, -1)
        chosen = sample_classes(labels, classes=self.classes, rate=self.config.sample_rate, seed=self.seed, step=step)
        chosen = chosen[(chosen >= self.first) & (chosen < self.last)]
        if len(chosen) == 0:
            return self.weight[:0], torch.full_like(labels, -1)
        row = torch.searchsorted(chosen, labels).clamp(max=len(chosen) - 1)
        return self.weight[chosen - self.first], torch.where(chosen[row] == labels, row, -1)


def part_of(classes: int, *, rank: int, size: int) -> tuple[int, int]:
    """First class of a rank's part, and the one after its last."""
    return classes * rank // size, classes * (rank + 1) // size


def initial_centers(first: int, last: int, *, embedding: int, seed: int) -> Tensor:
    """Rows `first` to `last` (excluded) of the initial random centers; each depends on (seed, class) alone."""
    blocks = []
    for block in range(first // ROWS, -(-last // ROWS)):
        start = int(np.random.SeedSequence([seed, block]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        rows = torch.randn(ROWS, embedding, generator=torch.Generator().manual_seed(start)) * INITIAL_STD
        blocks.append(rows[max(0, first - block * ROWS) : last - block * ROWS])
    return torch.cat(blocks)


def sample_classes(labels: Tensor, *, classes: int, rate: float, seed: int, step: int) -> Tensor:
    """The sorted classes of a step: those of the labels, and random others up to `rate` of all classes."""
    start = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    chance = torch.rand(classes, generator=torch.Generator().manual_seed(start)).to(labels.device)
    present = labels.unique()
    chance[present] = ALWAYS
    return chance.topk(max(len(present), round(rate * classes))).indices.sort().values


def gather_rows(x: Tensor, *, size: int) -> Tensor:
    """The rows of all ranks, in rank order; all ranks have the same number of rows."""
    if size == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(size)]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class _GatherRows(torch.autograd.Function):
    """`gather_rows`; backward sums the gradients of all ranks, times their number (see `ClassHead.forward`)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size = rank, size
        return gather_rows(x, size=size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if ctx.size > 1:
            grad = grad.contiguous()
            dist.all_reduce(grad)
            grad = grad.chunk(ctx.size)[ctx.rank] * ctx.size
        return grad, None, None


class _CrossEntropy(torch.autograd.Function):
    """Mean cross entropy of logits whose columns are split over ranks, and the fraction of rows that are hits.

    `target` (N,) is the column of each row's class, -1 on the ranks that do not hold it.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, size: int) -> tuple[Tensor, Tensor]:
        largest = logits.amax(1) if logits.shape[1] else logits.new_full((len(logits),), -torch.inf)
        _reduce(largest, dist.ReduceOp.MAX, size=size)
        here = (target >= 0).nonzero().flatten()
        own = torch.zeros_like(largest)
        own[here] = logits[here, target[here]] - largest[here]
        _reduce(own, dist.ReduceOp.SUM, size=size)
        shifted = (logits - largest[:, None]).exp_()
        total = shifted.sum(1)
        _reduce(total, dist.ReduceOp.SUM, size=size)
        ctx.save_for_backward(shifted.div_(total[:, None]), here, target)
        hits = (own >= 0).float().mean()
        ctx.mark_non_differentiable(hits)
        return (total.log() - own).mean(), hits

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        gradient, here, target = ctx.saved_tensors  # the probabilities; updated in place, as this is the largest tensor
        gradient[here, target[here]] -= 1
        return gradient.mul_(grad / len(gradient)), None, None


def _reduce(x: Tensor, how: Any, *, size: int) -> None:
    if size > 1:
        dist.all_reduce(x, op=how)


class TrainedHead:
    """A head with its own SGD: the backbone's engine would average the different parts of the ranks.

    Its state is gathered whole on rank 0, one part after the other, so that a checkpoint resumes on any number of
    ranks; rank 0 needs 8 bytes per class and dimension of host memory for it.
    """

    def __init__(self, head: ClassHead, *, learning_rate: float, momentum: float, weight_decay: float) -> None:
        self.head = head
        self.optimizer = torch.optim.SGD(
            head.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
        )

    def step(self, *, learning_rate: float) -> None:
        """Update the centers with the gradient of the last loss, and clear it."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def gathered(self) -> dict[str, Tensor]:
        """The state of all classes on rank 0, empty elsewhere. Collective."""
        state = {"weight": self._whole(self.head.weight.detach())}
        momentum = self.optimizer.state.get(self.head.weight, {}).get("momentum_buffer")
        if momentum is not None:
            state["momentum"] = self._whole(momentum)
        if self.head.rank:
            return {}
        margin = {f"margin.{name}": value.cpu() for name, value in self.head.margin.state_dict().items()}
        return {**{name: value for name, value in state.items() if value is not None}, **margin}

    def restore(self, whole: Mapping[str, Any]) -> None:
        """Load this rank's part of a gathered state; its tensors need only support slicing."""
        rows = slice(self.head.first, self.head.last)
        weight = self.head.weight
        weight.data.copy_(whole["weight"][rows])
        if "momentum" in whole:
            self.optimizer.state[weight]["momentum_buffer"] = whole["momentum"][rows].to(weight.device)
        names = self.head.margin.state_dict()
        self.head.margin.load_state_dict({name: whole[f"margin.{name}"][:] for name in names})

    def _whole(self, part: Tensor) -> Tensor | None:
        head = self.head
        if head.rank:
            dist.send(part.contiguous(), dst=0)
            return None
        whole = torch.empty(head.classes, part.shape[1])
        for rank in range(head.size):
            first, last = part_of(head.classes, rank=rank, size=head.size)
            received = part
            if rank:
                received = torch.empty(last - first, part.shape[1], device=part.device)
                dist.recv(received, src=rank)
            whole[first:last] = received.cpu()
        return whole
