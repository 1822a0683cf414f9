from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cemiface.config import MarginConfig
from cemiface.margins import MarginHead


@pytest.mark.parametrize(("classes", "start"), [(10_000, 38.81), (20_000, 39.50)])
def test_cosface_starts_at_the_loss_of_the_papers_log(classes, start):
    """ln C + s^2 / (2 * 512) + s m, for random centers."""
    assert start == pytest.approx(math.log(classes) + 64**2 / 1024 + 64 * 0.4, abs=0.01)
    torch.manual_seed(0)
    head = MarginHead(classes, 512, MarginConfig(kind="cosface", scale=64, margin=0.4))
    losses = []
    with torch.no_grad():
        for _ in range(4):
            labels = torch.randint(classes, (256,))
            losses.append(F.cross_entropy(head(torch.randn(256, 512), labels), labels).item())
    assert sum(losses) / 4 == pytest.approx(start, abs=0.3)  # a deviation of 0.09 is to be expected


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_logits_equal_the_angles_one_by_one(kind, draw):
    config = MarginConfig(kind=kind, scale=16, margin=0.3)
    head = MarginHead(5, 4, config)
    x, labels = torch.randn(6, 4, generator=draw), torch.tensor([0, 1, 2, 3, 4, 0])
    logits = head(x, labels)
    for i in range(6):
        for j in range(5):
            w = head.weight[j].detach()
            angle = math.acos((x[i] @ w / (x[i].norm() * w.norm())).item())
            cosine = math.cos(angle)
            if j == labels[i]:
                if kind == "cosface":
                    cosine -= 0.3
                else:
                    cosine = math.cos(angle + 0.3) if angle + 0.3 < math.pi else cosine - 0.3 * math.sin(0.3)
            assert logits[i, j].item() == pytest.approx(16 * cosine, abs=1e-3)


def test_the_arcface_logit_falls_with_the_angle_up_to_pi():
    head = MarginHead(1, 2, MarginConfig(kind="arcface", scale=1, margin=0.5))
    head.weight.data = torch.tensor([[1.0, 0.0]])
    angles = torch.linspace(0, math.pi, 500)
    logits = head(torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(500, dtype=torch.long))[:, 0]
    assert (logits.diff() <= 1e-6).all()


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_an_embedding_on_its_center_has_a_finite_gradient(kind):
    head = MarginHead(2, 3, MarginConfig(kind=kind))
    x = head.weight.detach()[:1].clone().requires_grad_()
    F.cross_entropy(head(x, torch.tensor([0])), torch.tensor([0])).backward()
    assert x.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_logits_are_float32_under_autocast(draw):
    head = MarginHead(5, 4, MarginConfig())
    x, labels = torch.randn(6, 4, generator=draw).bfloat16(), torch.zeros(6, dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(x, labels)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(x.float(), labels))
