from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cemiface.diffusion.config import DiffusionConfig
from cemiface.diffusion.schedule import Schedule
from cemiface.semihard.config import LossConfig, SimilarityGrid
from cemiface.semihard.losses import Losses, cemiface_loss, draw_m

SCHEDULE = Schedule(DiffusionConfig(timesteps=100))
SIZE = 4


class TinyEmbedder(nn.Module):
    """A differentiable, nonlinear net that computes in double precision for any input type."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * SIZE * SIZE, 5).double().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x.double().flatten(1)))


@pytest.fixture
def batch(draw: torch.Generator) -> dict[str, Tensor]:
    x0 = torch.rand(6, 3, SIZE, SIZE, generator=draw) - 0.5
    noise = torch.randn(6, 3, SIZE, SIZE, generator=draw)
    t = torch.tensor([20, 35, 50, 65, 80, 99])
    return {
        "x0": x0,
        "noise": noise,
        "t": t,
        "x_t": SCHEDULE.add_noise(x0, noise, t),
        "m": torch.rand(6, generator=draw) * 2 - 1,
        "predicted": noise + 0.3 * torch.randn(6, 3, SIZE, SIZE, generator=draw),
    }


@pytest.fixture
def embedder() -> TinyEmbedder:
    torch.manual_seed(3)
    return TinyEmbedder()


def loss(batch: dict[str, Tensor], embedder: TinyEmbedder, **changes: object) -> Losses:
    fields = {key: value for key, value in batch.items() if key not in ("x0", "predicted")}
    fields |= {"identity": embedder(batch["x0"]), "embedder": embedder, "schedule": SCHEDULE, "config": LossConfig()}
    fields |= changes
    return cemiface_loss(batch["predicted"], **fields)


def naive(batch: dict[str, Tensor], embedder: TinyEmbedder, *, clip: bool, rows: range = range(6)) -> dict[str, float]:
    """Eq. 9-14, one sample and one number at a time."""
    mse = reconstruction = similarity = cosine = 0.0
    for i in range(6):
        t = int(batch["t"][i])
        mse += ((batch["predicted"][i].double() - batch["noise"][i].double()) ** 2).mean().item() / 6
        alpha_bar = SCHEDULE.alpha_bar[t].double()
        x0 = (batch["x_t"][i].double() - (1 - alpha_bar).sqrt() * batch["predicted"][i].double()) / alpha_bar.sqrt()
        x0 = x0.clamp(-1, 1) if clip else x0
        a, b = embedder(batch["x0"][i : i + 1])[0], embedder(x0[None])[0]
        s = ((a @ b) / (a.norm() * b.norm())).item()
        cosine += s / 6
        if i in rows:
            reconstruction += (1 - t / 100) * (1 - s) ** 2 / 6
            similarity += t / 100 * (batch["m"][i].item() - s) ** 2 / 6
    total = mse + 0.05 * (reconstruction + similarity)
    return {"total": total, "mse": mse, "reconstruction": reconstruction, "similarity": similarity, "cosine": cosine}


@pytest.mark.parametrize("clip", [True, False])
def test_the_loss_is_equation_14(batch, embedder, clip):
    result = loss(batch, embedder, config=LossConfig(clip_x0=clip))
    for term, value in naive(batch, embedder, clip=clip).items():
        assert getattr(result, term).item() == pytest.approx(value, rel=1e-4), term


def test_loss_of_a_velocity_prediction_uses_its_mse_and_its_predicted_image(batch, embedder):
    schedule = Schedule(DiffusionConfig(timesteps=100, prediction="velocity"))
    alpha_bar = schedule.alpha_bar[batch["t"]][:, None, None, None]
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    by_noise = loss(batch, embedder)
    velocity = (batch["predicted"] - spread * batch["x_t"]) / signal
    by_velocity = loss({**batch, "predicted": velocity}, embedder, schedule=schedule)
    true = signal * batch["noise"] - spread * batch["x0"]
    assert by_velocity.mse.item() == pytest.approx((velocity - true).square().mean().item(), rel=1e-3)
    for term in ("reconstruction", "similarity", "cosine"):
        assert getattr(by_velocity, term).item() == pytest.approx(getattr(by_noise, term).item(), rel=1e-3), term


def test_masked_samples_take_only_the_mse(batch, embedder):
    mask = torch.tensor([1.0, 1, 1, 0, 0, 0])
    result = loss(batch, embedder, weight_mask=mask)
    for term, value in naive(batch, embedder, clip=True, rows=range(3)).items():
        assert getattr(result, term).item() == pytest.approx(value, rel=1e-4), term


def test_a_masked_sample_has_the_gradient_of_the_mse(batch, embedder):
    batch["predicted"].requires_grad_()
    loss(batch, embedder, weight_mask=torch.tensor([True] * 5 + [False])).total.backward()
    gradient = batch["predicted"].grad
    only_mse = 2 * (batch["predicted"] - batch["noise"]) / batch["noise"].numel()
    torch.testing.assert_close(gradient[5], only_mse[5].detach())
    assert (gradient[0] - only_mse[0]).abs().max() > 1e-5


def test_the_weight_of_a_sample_does_not_depend_on_its_batch(batch, embedder):
    whole = loss(batch, embedder).total
    halves = []
    for rows in (slice(0, 3), slice(3, 6)):
        halves.append(loss({key: value[rows] for key, value in batch.items()}, embedder).total)
    torch.testing.assert_close(whole, (halves[0] + halves[1]) / 2)


def test_the_similarity_gradient_equals_finite_differences(batch, embedder):
    """Through predict_x0, the frozen net and the cosine, in float64, without the clip's corners."""
    config = LossConfig(clip_x0=False)

    def similarity_terms(predicted: Tensor) -> Tensor:
        alpha_bar = SCHEDULE.alpha_bar.double()[batch["t"]][:, None, None, None]
        x0 = (batch["x_t"].double() - (1 - alpha_bar).sqrt() * predicted) / alpha_bar.sqrt()
        s = torch.cosine_similarity(embedder(batch["x0"]), embedder(x0))
        gamma = batch["t"] / 100
        return config.weight * ((1 - gamma) * (1 - s) ** 2 + gamma * (batch["m"].double() - s) ** 2).mean()

    predicted = batch["predicted"].double()
    differences = torch.zeros_like(predicted).flatten()
    for k in range(len(differences)):
        step = torch.zeros_like(differences)
        step[k] = 1e-5
        up, down = (similarity_terms(predicted + sign * step.view_as(predicted)) for sign in (1, -1))
        differences[k] = (up - down) / 2e-5
    batch["predicted"].requires_grad_()
    result = loss(batch, embedder, config=config)
    gradient = torch.autograd.grad(result.total, batch["predicted"])[0]
    mse_part = 2 * (batch["predicted"] - batch["noise"]).detach() / batch["noise"].numel()
    torch.testing.assert_close(gradient - mse_part, differences.view_as(gradient).float(), atol=1e-6, rtol=1e-3)


def test_clipped_pixels_take_no_identity_gradient(batch, embedder):
    batch["predicted"] = (batch["noise"] - 100).requires_grad_()  # every predicted pixel far above 1
    loss(batch, embedder).total.backward()
    only_mse = 2 * (batch["predicted"] - batch["noise"]).detach() / batch["noise"].numel()
    torch.testing.assert_close(batch["predicted"].grad, only_mse)


def test_the_embedder_takes_no_gradient(batch, embedder):
    batch["predicted"].requires_grad_()
    loss(batch, embedder).total.backward()
    assert all(parameter.grad is None for parameter in embedder.parameters())


def test_only_the_total_carries_a_gradient(batch, embedder):
    batch["predicted"].requires_grad_()
    result = loss(batch, embedder)
    assert result.total.requires_grad
    assert not any(term.requires_grad for term in (result.mse, result.reconstruction, result.similarity, result.cosine))


def test_m_is_drawn_uniformly_from_the_grid():
    grid = SimilarityGrid(low=-1, high=1, interval=0.5)
    uniform = torch.arange(1000) / 1000
    values, counts = draw_m(uniform, grid=grid).unique(return_counts=True)
    assert values.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert counts.tolist() == [200] * 5


def test_m_without_interval_is_drawn_from_the_range():
    grid = SimilarityGrid(low=-0.5, high=1, interval=None)
    torch.testing.assert_close(draw_m(torch.tensor([0, 0.5, 0.999]), grid=grid), torch.tensor([-0.5, 0.25, 0.9985]))


def test_the_largest_uniform_number_stays_on_the_grid():
    below_one = torch.tensor([1 - 2**-24])
    assert draw_m(below_one, grid=SimilarityGrid()).item() == 1
