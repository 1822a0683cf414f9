from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cemiface.recognition.class_head import ClassHead
from cemiface.recognition.config import MarginConfig
from cemiface.recognition.margins import AdaFace, build_margin


@pytest.mark.parametrize(("classes", "start"), [(10_000, 38.81), (20_000, 39.50)])
def test_cosface_starts_at_the_loss_of_the_papers_log(classes, start):
    """ln C + s^2 / (2 * 512) + s m, for random centers."""
    assert start == pytest.approx(math.log(classes) + 64**2 / 1024 + 64 * 0.4, abs=0.01)
    torch.manual_seed(0)
    head = ClassHead(classes, 512, MarginConfig(kind="cosface", scale=64, margin=0.4), seed=0)
    losses = []
    with torch.no_grad():
        for _ in range(4):
            labels = torch.randint(classes, (256,))
            losses.append(head(torch.randn(256, 512), labels).loss.item())
    assert sum(losses) / 4 == pytest.approx(start, abs=0.3)  # a deviation of 0.09 is to be expected


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_logits_equal_the_angles_one_by_one(kind, draw):
    config = MarginConfig(kind=kind, scale=16, margin=0.3)
    head = ClassHead(5, 4, config, seed=0)
    x, labels = torch.randn(6, 4, generator=draw), torch.tensor([0, 1, 2, 3, 4, 0])
    logits = head.logits(x, labels)[0]
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
    head = ClassHead(1, 2, MarginConfig(kind="arcface", scale=1, margin=0.5), seed=0)
    head.weight.data = torch.tensor([[1.0, 0.0]])
    angles = torch.linspace(0, math.pi, 500)
    logits = head.logits(torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(500, dtype=torch.long))[0][:, 0]
    assert (logits.diff() <= 1e-6).all()


@pytest.mark.parametrize("kind", ["cosface", "arcface", "adaface"])
def test_an_embedding_on_its_center_has_a_finite_gradient(kind):
    head = ClassHead(2, 3, MarginConfig(kind=kind), seed=0)
    x = head.weight.detach()[:1].clone().requires_grad_()
    head(x, torch.tensor([0])).loss.backward()
    assert x.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_logits_are_float32_under_autocast(draw):
    head = ClassHead(5, 4, MarginConfig(), seed=0)
    x, labels = torch.randn(6, 4, generator=draw).bfloat16(), torch.zeros(6, dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head.logits(x, labels)[0]
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head.logits(x.float(), labels)[0])


def test_without_margin_the_loss_is_the_cross_entropy_of_scaled_cosines(draw):
    head = ClassHead(9, 4, MarginConfig(margin=0, scale=8), seed=0)
    x, labels = torch.randn(6, 4, generator=draw, requires_grad=True), torch.tensor([0, 8, 2, 2, 5, 1])
    found = head(x, labels)
    found.loss.backward()
    gradient, centers = x.grad.clone(), head.weight.grad.clone()
    x.grad = head.weight.grad = None
    logits = 8 * F.linear(F.normalize(x), F.normalize(head.weight))
    F.cross_entropy(logits, labels).backward()
    torch.testing.assert_close(found.loss, F.cross_entropy(logits, labels))
    torch.testing.assert_close(gradient, x.grad)
    torch.testing.assert_close(centers, head.weight.grad)
    assert found.hits.item() == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def adaface(*, mean: float, std: float) -> AdaFace:
    margin = build_margin(MarginConfig(kind="adaface", margin=0.4, concentration=0.333))
    margin.mean.fill_(mean)
    margin.std.fill_(std)
    return margin.eval()


def test_adaface_equals_its_equations_for_short_middle_and_long_embeddings():
    """Section 3.4, z = -1, 0 and 1: ArcFace with the sign of the margin reversed, CosFace, and cos(angle - m) - 2 m."""
    angle = torch.tensor(1.1)
    margin = adaface(mean=20, std=10)
    short, middle, long = margin(angle.cos().expand(3), torch.tensor([0.001, 20.0, 99.0])).tolist()
    assert middle == pytest.approx(math.cos(1.1) - 0.4, abs=1e-5)
    z = 0.333 * (0.001 - 20) / 10.001
    assert short == pytest.approx(math.cos(1.1 - 0.4 * z) - 0.4 - 0.4 * z, abs=1e-4)
    assert long == pytest.approx(math.cos(1.1 - 0.4) - 0.8, abs=1e-4)  # z is clipped to 1


def test_adaface_moments_follow_the_batch_in_training_only():
    margin = adaface(mean=20, std=10)
    margin(torch.zeros(4), torch.tensor([30.0, 32, 34, 36]))
    assert margin.mean.item() == 20
    margin.train()(torch.zeros(4), torch.tensor([30.0, 32, 34, 36]))
    assert margin.mean.item() == pytest.approx(20 + 0.01 * 13)
    assert margin.std.item() == pytest.approx(10 + 0.01 * (torch.tensor([30.0, 32, 34, 36]).std().item() - 10))


def test_adaface_gives_the_norm_no_gradient():
    norm = torch.tensor([10.0, 30.0], requires_grad=True)
    adaface(mean=20, std=10)(torch.tensor([0.2, 0.3], requires_grad=True), norm).sum().backward()
    assert norm.grad is None
