"""Sampling, Algorithm 2 of CemiFace: DDIM (Song et al. 2021, arXiv 2010.02502) as the paper has it, and
DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095), which needs fewer steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from cemiface.diffusion import Schedule
from cemiface.errors import ModelError

Solver = Literal["ddim", "dpmpp"]
Spacing = Literal["leading", "trailing", "logsnr"]


class PredictsNoise(Protocol):
    def __call__(self, x: Tensor, t: Tensor, identity: Tensor, m: Tensor, null: Tensor | None) -> Tensor: ...


@torch.no_grad()
def ddim(
    denoiser: PredictsNoise,
    *,
    noise: Tensor,
    identity: Tensor,
    m: Tensor,
    schedule: Schedule,
    null: Tensor | None = None,
    steps: int = 20,
    eta: float = 0.0,
    spacing: Spacing = "leading",
    generators: Sequence[torch.Generator] | None = None,
    clip_x0: bool = True,
    rederive_noise: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Images (N, 3, S, S) in float32 from noise of that shape, one per row of identity (N, E), m (N,) and null (N,).

    With eta > 0 the fresh noise of image i comes from generators[i] alone, so an image does not depend on its batch.
    The predicted image is clipped to [-1, 1] and the noise derived anew from it, which is the path of `dpm_solver`.
    Without `rederive_noise`, as DCFace samples, x loses what was clipped: where the prediction overshoots towards an
    identity, the image moves away from it, and similarity falls with m instead of rising.
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
        eps = denoiser(x, t, identity, m, null).float()
        x0 = schedule.predict_x0(x, eps, t)
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
def dpm_solver(
    denoiser: PredictsNoise,
    *,
    noise: Tensor,
    identity: Tensor,
    m: Tensor,
    schedule: Schedule,
    null: Tensor | None = None,
    steps: int = 10,
    spacing: Spacing = "logsnr",
    clip_x0: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """As `ddim` with eta 0, by DPM-Solver++ 2M: each step looks back at the image predicted in the one before.

    Algorithm 2 of the paper with the predicted image clipped; the first and the last step, which ends without noise,
    are of first order. Raises ModelError on an impossible `steps`.
    """
    times = sampling_timesteps(schedule, steps=steps, spacing=spacing)
    alpha_bars = schedule.alpha_bar[times].double().cpu()
    alphas, sigmas = alpha_bars.sqrt().tolist(), (1 - alpha_bars).sqrt().tolist()
    lambdas = [math.log(alpha / sigma) for alpha, sigma in zip(alphas, sigmas, strict=True)]

    def predict_x0(x: Tensor, step: int) -> Tensor:
        if on_step is not None:
            on_step(step)
        t = torch.full((len(x),), times[step], dtype=torch.long, device=x.device)
        x0 = schedule.predict_x0(x, denoiser(x, t, identity, m, null).float(), t)
        return x0.clamp(-1, 1) if clip_x0 else x0

    x = noise.float()
    before, width_before = None, 0.0
    last = len(times) - 1
    for step in range(last):
        x0 = predict_x0(x, step)
        width = lambdas[step + 1] - lambdas[step]  # h in the paper
        d = x0 if before is None else x0 + (x0 - before) * (width / (2 * width_before))
        x = x * (sigmas[step + 1] / sigmas[step]) - d * (alphas[step + 1] * math.expm1(-width))
        before, width_before = x0, width
    return predict_x0(x, last)  # where a first-order step ends as sigma goes to 0


def sampling_timesteps(schedule: Schedule, *, steps: int, spacing: Spacing = "leading") -> list[int]:
    """The timesteps visited, the noisiest first.

    "leading" is DCFace's: 950, 900, .., 0 for 20 of 1000, which never visits the noisiest; "trailing" starts there:
    999, 949, .., 49. "logsnr" takes equal steps in log(signal / noise) from the noisiest to the least noisy timestep,
    as DPM-Solver's analysis asks for; where two fall on one timestep it is visited once. Raises ModelError unless
    1 <= steps <= timesteps.
    """
    timesteps = schedule.timesteps
    if not 1 <= steps <= timesteps:
        raise ModelError(f"steps: got {steps}; allowed: 1 to {timesteps}")
    if spacing == "leading":
        return [index * (timesteps // steps) for index in reversed(range(steps))]
    if spacing == "trailing":
        return [round(timesteps * index / steps) - 1 for index in range(steps, 0, -1)]
    alpha_bar = schedule.alpha_bar.double().cpu()
    log_snr = (alpha_bar / (1 - alpha_bar)).log() / 2  # falls with the timestep
    wished = torch.linspace(float(log_snr[-1]), float(log_snr[0]), steps, dtype=torch.float64)
    nearest = (log_snr[None, :] - wished[:, None]).abs().argmin(dim=1)
    return sorted({int(time) for time in nearest}, reverse=True)


def noise_like(x: Tensor, *, generators: Sequence[torch.Generator]) -> Tensor:
    """Normal noise shaped as x, row i from generators[i]."""
    rows = [torch.randn(x.shape[1:], generator=generator, device=generator.device) for generator in generators]
    return torch.stack(rows).to(x.device)
