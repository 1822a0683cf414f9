from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from cemiface.diffusion.config import DiffusionConfig, UNetConfig
from cemiface.diffusion.sampler import Predict, adams, adams_weights, ddim, noise_like, sampling_timesteps
from cemiface.diffusion.schedule import Schedule
from cemiface.diffusion.unet import Condition, UNet
from cemiface.errors import ModelError

CONFIG = UNetConfig(
    image_size=16,
    channels=32,
    multipliers=(1, 2),
    attention_levels=(1,),
    head_channels=32,
    skip_downsample_level=None,
)
SCHEDULE = Schedule(DiffusionConfig(timesteps=100, beta_start=1e-3, beta_end=0.1))


class Plain(Condition):
    """Passes the caller's vectors through unchanged."""

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


def guess(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """A stand-in for a net that depends on every input; some predicted images leave [-1, 1]."""
    shift = condition.mean(1) + t / 100
    return torch.tanh(x) * 0.7 + 0.1 * shift[:, None, None, None]


def inputs(n: int = 3, size: int = 4) -> tuple[Tensor, Tensor]:
    """Noise, and a condition vector for each of its images."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, size, size, generator=draw), torch.randn(n, 8, generator=draw)


def bound(net: Callable[[Tensor, Tensor, Tensor], Tensor], condition: Tensor) -> Predict:
    return lambda x, t: net(x, t, condition)


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def net() -> UNet:
    torch.manual_seed(0)
    module = UNet(CONFIG, condition=Plain(width=8)).eval()
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return module


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("clip", "rederive"), [(True, True), (True, False), (False, False)])
def test_ddim_equals_a_loop_over_single_images(eta, clip, rederive):
    (noise, condition), times = inputs(), [80, 60, 40, 20, 0]
    choices = {"eta": eta, "clip_x0": clip, "rederive_noise": rederive, "generators": generators([5, 6, 7])}
    found = ddim(bound(guess, condition), noise=noise, schedule=SCHEDULE, steps=5, **choices)
    for i in range(3):
        own = torch.Generator().manual_seed(5 + i)
        x = noise[i : i + 1].double()
        for step, time in enumerate(times):
            eps = guess(x.float(), torch.tensor([time]), condition[i : i + 1]).double()
            now = SCHEDULE.alpha_bar[time].item()
            then = SCHEDULE.alpha_bar[times[step + 1]].item() if step < 4 else 1.0
            x0 = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
            x0 = x0.clamp(-1, 1) if clip else x0
            if rederive:
                eps = (x - math.sqrt(now) * x0) / math.sqrt(1 - now)
            sigma = eta * math.sqrt((1 - then) / (1 - now)) * math.sqrt(1 - now / then)
            fresh = torch.randn(1, 3, 4, 4, generator=own).double()
            x = math.sqrt(then) * x0 + math.sqrt(1 - then - sigma**2) * eps + sigma * fresh
        torch.testing.assert_close(found[i : i + 1], x.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("clip", [True, False])
def test_adams_equals_a_loop_over_single_images(clip):
    """Predict, correct, predict again: the polynomial of the newest images fitted by least squares of full rank and
    integrated by a fine sum, one image at a time."""
    (noise, condition), times = inputs(), [99, 79, 59, 39, 19]
    found = adams(bound(guess, condition), noise=noise, schedule=SCHEDULE, steps=5, clip_x0=clip, spacing="trailing")
    alpha = [math.sqrt(SCHEDULE.alpha_bar[time].item()) for time in times]
    sigma = [math.sqrt(1 - SCHEDULE.alpha_bar[time].item()) for time in times]
    lam = [math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]

    def step_from(x: Tensor, images: list[Tensor], at: list[float], i: int) -> Tensor:
        edges = torch.linspace(lam[i], lam[i + 1], 20_001, dtype=torch.float64)
        middle, width = (edges[1:] + edges[:-1]) / 2, (lam[i + 1] - lam[i]) / 20_000
        powers = torch.arange(len(at), dtype=torch.float64)
        vandermonde = torch.tensor(at, dtype=torch.float64)[:, None] ** powers
        values = torch.stack([image.flatten() for image in images])
        path = (middle[:, None] ** powers) @ torch.linalg.solve(vandermonde, values)
        integral = (path * middle.exp()[:, None]).sum(0).view_as(x) * width
        return sigma[i + 1] / sigma[i] * x + sigma[i + 1] * integral

    used = {0: 1, 1: 2, 2: 2, 3: 1}  # predictions that the step from i combines: fewer at the start and at the end
    correcting = {1: 2, 2: 3, 3: 3}
    for row in range(3):
        x = true = noise[row : row + 1].double()
        images: list[Tensor] = []
        for i, time in enumerate(times):
            eps = guess(x.float(), torch.tensor([time]), condition[row : row + 1]).double()
            x0 = (x - sigma[i] * eps) / alpha[i]
            images.append(x0.clamp(-1, 1) if clip else x0)
            if i in correcting:
                n = correcting[i]
                true = step_from(true, images[-n:], lam[: i + 1][-n:], i - 1)
            if i in used:
                n = used[i]
                x = step_from(true, images[-n:], lam[: i + 1][-n:], i)
        torch.testing.assert_close(found[row : row + 1], images[-1].float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sample", [partial(ddim, steps=5), partial(ddim, steps=5, rederive_noise=False), adams])
def test_velocity_and_noise_predictions_of_one_net_give_the_same_samples(sample):
    by_velocity = Schedule(SCHEDULE.config.model_copy(update={"prediction": "velocity"}))
    noise, condition = inputs()

    def guess_velocity(x: Tensor, t: Tensor) -> Tensor:
        return by_velocity.target(x, guess(x, t, condition), t)

    found = sample(guess_velocity, noise=noise, schedule=by_velocity)
    expected = sample(bound(guess, condition), noise=noise, schedule=SCHEDULE)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_weights_integrate_polynomials_with_as_many_coefficients_as_nodes():
    nodes, now, then = np.array([-2.0, -0.7, 0.4]), 0.4, 1.9
    weights = adams_weights(nodes, now=now, then=then)
    exact = [1 - math.exp(now - then)]  # of 1; by parts of lambda ** n: the boundary less n times the power below
    for n in (1, 2):
        exact.append(then**n - now**n * math.exp(now - then) - n * exact[-1])
    for n in range(3):
        assert weights @ nodes**n == pytest.approx(exact[n], rel=1e-12)


def test_adams_is_closer_to_the_exact_path_than_ddim_in_half_the_steps():
    """The data are normal, so the best denoiser is linear and the path from noise to image is known in closed form."""
    spread, schedule = 0.3, Schedule(DiffusionConfig())

    def best(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar[t][:, None, None, None]
        return x * (1 - alpha_bar).sqrt() / (1 - alpha_bar + alpha_bar * spread**2)

    noise, _ = inputs()
    exact = noise * spread  # the path keeps every quantile of a normal variable
    ddim_error, solver_error = (
        (sampler(best, noise=noise, schedule=schedule, steps=steps, clip_x0=False) - exact).norm()
        for sampler, steps in ((ddim, 20), (adams, 10))
    )
    assert solver_error < 0.3 * ddim_error


def test_with_recomputed_noise_samples_hardly_depend_on_the_number_of_steps(net):
    noise, condition = inputs(4, size=16)
    distances = []
    for rederive in (True, False):
        choices = {"schedule": SCHEDULE, "spacing": "trailing", "rederive_noise": rederive}
        few, many = (ddim(bound(net, condition), noise=noise, steps=steps, **choices) for steps in (20, 100))
        distances.append((few - many).square().mean().sqrt() / many.std())
    assert distances[0] < 0.1
    assert distances[0] < 0.5 * distances[1]


def test_a_perfect_denoiser_finds_the_image(draw):
    x0 = torch.rand(2, 3, 4, 4, generator=draw) * 2 - 1

    def oracle(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = SCHEDULE.alpha_bar[t][:, None, None, None]
        return (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()

    for sampler in (ddim, adams):
        found = sampler(oracle, noise=inputs(2)[0], schedule=SCHEDULE, steps=10)
        torch.testing.assert_close(found, x0, atol=1e-4, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_image_is_the_same_in_any_batch(net, eta):
    (noise, condition), seeds = inputs(5, size=16), [11, 12, 13, 14, 15]
    choices = {"schedule": SCHEDULE, "steps": 4, "eta": eta}
    whole = ddim(bound(net, condition), noise=noise, **choices, generators=generators(seeds))
    for index in ([3], [4, 0], [2, 1, 3]):
        own = generators([seeds[i] for i in index])
        part = ddim(bound(net, condition[index]), noise=noise[index], **choices, generators=own)
        torch.testing.assert_close(part, whole[index], atol=1e-5, rtol=0)


def test_the_same_batch_gives_the_same_bits(net):
    noise, condition = inputs(4, size=16)
    choices = {"schedule": SCHEDULE, "steps": 4, "eta": 1.0}
    once, again = (
        ddim(bound(net, condition), noise=noise, **choices, generators=generators([1, 2, 3, 4])) for _ in range(2)
    )
    assert torch.equal(once, again)


def test_the_timesteps_of_20_steps():
    thousand, ten = (Schedule(DiffusionConfig(timesteps=count)) for count in (1000, 10))
    assert sampling_timesteps(thousand, steps=20) == list(range(950, -1, -50))
    assert sampling_timesteps(thousand, steps=20, spacing="trailing") == list(range(999, 0, -50))
    assert sampling_timesteps(ten, steps=3) == [6, 3, 0]
    assert sampling_timesteps(ten, steps=3, spacing="trailing") == [9, 6, 2]


def test_mixed_timesteps_lie_between_even_ones_in_time_and_in_the_logarithm_of_signal_to_noise():
    schedule = Schedule(DiffusionConfig())
    times = sampling_timesteps(schedule, steps=10, spacing="mixed")
    assert times == [999, 887, 763, 622, 453, 275, 151, 82, 37, 0]
    ratios = [schedule.alpha_bar[time].item() / (1 - schedule.alpha_bar[time].item()) for time in times]
    widths = [math.log(then / now) for now, then in itertools.pairwise(ratios)]
    even = [999 - 111 * step for step in range(10)]
    assert all(mixed <= evenly for mixed, evenly in zip(times, even, strict=True))
    assert widths[-1] > 1.5 * widths[0]  # even steps in the logarithm would be equally wide


def test_mixed_timesteps_are_never_visited_twice():
    times = sampling_timesteps(Schedule(DiffusionConfig()), steps=1000, spacing="mixed")
    assert times == sorted(set(times), reverse=True)
    assert len(times) < 1000


@pytest.mark.parametrize("steps", [0, -1, 101])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(ModelError, match=rf"steps: got {steps}; allowed: 1 to 100"):
        ddim(bound(guess, inputs()[1]), noise=inputs()[0], schedule=SCHEDULE, steps=steps)


def test_noise_without_generators_is_refused():
    with pytest.raises(ModelError, match="generators: got 0 for 3 images"):
        ddim(bound(guess, inputs()[1]), noise=inputs()[0], schedule=SCHEDULE, eta=1.0)
    with pytest.raises(ModelError, match=r"eta: got 1\.5; allowed: 0"):
        ddim(bound(guess, inputs()[1]), noise=inputs()[0], schedule=SCHEDULE, eta=1.5)


def test_the_step_callback_can_stop_the_sampling():
    class Stop(Exception):  # noqa: N818
        pass

    seen = []

    def on_step(step: int) -> None:
        seen.append(step)
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        ddim(bound(guess, inputs()[1]), noise=inputs()[0], schedule=SCHEDULE, steps=5, on_step=on_step)
    assert seen == [0, 1, 2]


def test_the_noise_of_a_row_comes_from_its_generator_alone():
    x = torch.empty(3, 3, 2, 2)
    found = noise_like(x, generators=generators([7, 8, 9]))
    assert torch.equal(found[1:2], noise_like(x[:1], generators=generators([8])))
