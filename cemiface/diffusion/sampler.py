"""Sampling, Algorithm 2 of CemiFace, by DDIM or by an Adams predictor-corrector.

DDIM (Song et al. 2021, arXiv 2010.02502) is the paper's. The predictor-corrector is SA-Solver (Xue et al. 2023,
arXiv 2309.05019) without its noise, and needs fewer steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cemiface.diffusion.schedule import Schedule
from cemiface.errors import ModelError

Solver = Literal["ddim", "adams"]
Spacing = Literal["leading", "trailing", "mixed"]
Predict = Callable[[Tensor, Tensor], Tensor]  # x_t (N, 3, S, S) and t (N,) long to the net's output (N, 3, S, S)

ORDER = 3  # of `adams`: predictions that a step combines; four came no closer to the exact path
EVEN_IN_LOGSNR = 0.7  # of "mixed": the weight of even spacing in log(signal / noise); the rest is even in time


@torch.no_grad()
def ddim(
    predict: Predict,
    *,
    noise: Tensor,
    schedule: Schedule,
    steps: int = 20,
    eta: float = 0.0,
    spacing: Spacing = "leading",
    generators: Sequence[torch.Generator] | None = None,
    clip_x0: bool = True,
    rederive_noise: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Images (N, 3, S, S) in float32 from noise of that shape; `predict` is the net with its condition bound.

    With eta > 0 the fresh noise of image i comes from generators[i] alone, so an image does not depend on its batch.
    The predicted image is clipped to [-1, 1] and the noise is recomputed from it, as in `adams`.
    Without `rederive_noise`, as in DCFace, x loses what was clipped: if the prediction overshoots towards an identity,
    the image moves away from it, and similarity falls with m instead of rising.
    `on_step(step)` is called before each of the steps 0..steps-1 and may raise to stop. Raises ModelError on an
    impossible `steps` or `eta`, or missing generators.
    """
    if not 0 <= eta <= 1:
        raise ModelError(f"eta: got {eta}; allowed: 0 (DDIM) to 1 (DDPM)")
    if eta > 0 and (generators is None or len(generators) != len(noise)):
        raise ModelError(f"generators: got {len(generators or ())} for {len(noise)} images; eta above 0 needs one each")
    times = sampling_timesteps(schedule, steps=steps, spacing=spacing)
    alpha_bars = [schedule.alpha_bar[time] for time in times] + [torch.ones_like(schedule.alpha_bar[0])]
    x = noise.float()
    for step, time in enumerate(times):
        if on_step is not None:
            on_step(step)
        t = torch.full((len(x),), time, dtype=torch.long, device=x.device)
        output = predict(x, t).float()
        x0, eps = schedule.predict_x0(x, output, t), schedule.predict_noise(x, output, t)
        now, then = alpha_bars[step], alpha_bars[step + 1]
        if clip_x0:
            x0 = x0.clamp(-1, 1)
            if rederive_noise:
                eps = (x - now.sqrt() * x0) / (1 - now).sqrt()
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()  # eq. 16 of DDIM
        x = then.sqrt() * x0 + (1 - then - sigma**2).sqrt() * eps  # eq. 12 of DDIM
        if eta > 0 and generators is not None:
            x = x + sigma * noise_like(x, generators=generators)
    return x


@torch.no_grad()
def adams(
    predict: Predict,
    *,
    noise: Tensor,
    schedule: Schedule,
    steps: int = 10,
    spacing: Spacing = "mixed",
    clip_x0: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Like `ddim` with eta 0, but a step uses the images predicted at the last three timesteps instead of one.

    The polynomial through them in lambda = log(signal / noise) is integrated exactly. The image predicted at the end
    of a step also corrects that step without another evaluation. The last steps use fewer predictions, because lambda
    changes fast there. Raises ModelError on an impossible `steps`.
    """
    times = sampling_timesteps(schedule, steps=steps, spacing=spacing)
    alpha_bars = schedule.alpha_bar[times].double().cpu().numpy()
    alphas, sigmas = np.sqrt(alpha_bars), np.sqrt(1 - alpha_bars)
    lambdas = np.log(alphas / sigmas)

    def step_from(x: Tensor, now: int, predictions: Sequence[tuple[float, Tensor]]) -> Tensor:
        """x moved from timestep number `now` to the next one, given (lambda, predicted image) pairs."""
        at, images = zip(*predictions, strict=True)
        weights = adams_weights(np.array(at), now=lambdas[now], then=lambdas[now + 1])
        change = torch.stack([float(weight) * image for weight, image in zip(weights, images, strict=True)]).sum(0)
        return x * float(sigmas[now + 1] / sigmas[now]) + float(alphas[now + 1]) * change

    x = corrected = noise.float()
    newest: list[tuple[float, Tensor]] = []
    last = len(times) - 1
    for step, time in enumerate(times):
        if on_step is not None:
            on_step(step)
        t = torch.full((len(x),), time, dtype=torch.long, device=x.device)
        x0 = schedule.predict_x0(x, predict(x, t).float(), t)
        x0 = x0.clamp(-1, 1) if clip_x0 else x0
        newest = [*newest[1 - ORDER :], (lambdas[step], x0)]
        if step == last:
            break
        if step > 0:
            corrected = step_from(corrected, step - 1, newest)
        x = step_from(corrected, step, newest[step - last :])
    return x0  # the limit of a first-order step as sigma goes to 0


def adams_weights(nodes: np.ndarray, *, now: float, then: float) -> np.ndarray:
    """Weights of the values at the nodes in the integral over [now, then] of exp(lambda - then) times their polynomial.

    The polynomial is Lagrange's. Gauss-Legendre quadrature is exact to the last digits at the widths that occur.
    """
    points, weights = np.polynomial.legendre.leggauss(24)
    at = (now + then) / 2 + (then - now) / 2 * points
    weights = (then - now) / 2 * weights * np.exp(at - then)
    lagrange = [
        np.prod([(at - other) / (node - other) for other in nodes if other != node], axis=0) * weights for node in nodes
    ]
    integrals: np.ndarray = np.asarray(lagrange).sum(axis=1)
    return integrals


def sampling_timesteps(schedule: Schedule, *, steps: int, spacing: Spacing = "leading") -> list[int]:
    """The timesteps visited, the noisiest first.

    "leading" is DCFace's: 950, 900, .., 0 for 20 of 1000, without the noisiest. "trailing" starts at the noisiest:
    999, 949, .., 49. "mixed" goes from the noisiest to the least noisy. It lies between even steps in time, which
    follow the similarity best, and even steps in log(signal / noise), which come closest to the exact image. If two
    steps round to one timestep, it is visited once. Raises ModelError unless 1 <= steps <= timesteps.
    """
    timesteps = schedule.timesteps
    if not 1 <= steps <= timesteps:
        raise ModelError(f"steps: got {steps}; allowed: 1 to {timesteps}")
    if spacing == "leading":
        return [index * (timesteps // steps) for index in reversed(range(steps))]
    if spacing == "trailing":
        return [round(timesteps * index / steps) - 1 for index in range(steps, 0, -1)]
    alpha_bar = schedule.alpha_bar.double().cpu().numpy()
    noisiness = np.log(1 - alpha_bar) - np.log(alpha_bar)  # rises with the timestep
    even_in_logsnr = np.interp(np.linspace(noisiness[-1], noisiness[0], steps), noisiness, np.arange(timesteps))
    even_in_time = np.linspace(timesteps - 1, 0, steps)
    mixed = EVEN_IN_LOGSNR * even_in_logsnr + (1 - EVEN_IN_LOGSNR) * even_in_time
    return sorted({int(time) for time in mixed.round()}, reverse=True)


def noise_like(x: Tensor, *, generators: Sequence[torch.Generator]) -> Tensor:
    """Normal noise of the shape of x; row i comes from generators[i]."""
    rows = [torch.randn(x.shape[1:], generator=generator, device=generator.device) for generator in generators]
    return torch.stack(rows).to(x.device)
