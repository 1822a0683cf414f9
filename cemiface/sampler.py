"""DDIM sampling (Song et al. 2021, arXiv 2010.02502), Algorithm 2 of CemiFace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from cemiface.diffusion import Schedule
from cemiface.errors import ModelError

Spacing = Literal["leading", "trailing"]


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
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Images (N, 3, S, S) in float32 from noise of that shape, one per row of identity (N, E), m (N,) and null (N,).

    With eta > 0 the fresh noise of image i comes from generators[i] alone, so an image does not depend on its batch.
    The predicted image is clipped to [-1, 1] and the noise is not derived anew from it, as DCFace samples.
    `on_step(step)` is called before each of the steps 0..steps-1 and may raise to stop. Raises ModelError on an
    impossible `steps` or `eta`, or missing generators.
    """
    if not 0 <= eta <= 1:
        raise ModelError(f"eta: got {eta}; allowed: 0 (DDIM) to 1 (DDPM)")
    if eta > 0 and (generators is None or len(generators) != len(noise)):
        raise ModelError(f"generators: got {len(generators or ())} for {len(noise)} images; eta above 0 needs one each")
    times = sampling_timesteps(schedule.timesteps, steps=steps, spacing=spacing)
    alpha_bars = [schedule.alpha_bar[time] for time in times] + [torch.ones_like(schedule.alpha_bar[0])]
    x = noise.float()
    for step, time in enumerate(times):
        if on_step is not None:
            on_step(step)
        t = torch.full((len(x),), time, dtype=torch.long, device=x.device)
        eps = denoiser(x, t, identity, m, null).float()
        x0 = schedule.predict_x0(x, eps, t)
        if clip_x0:
            x0 = x0.clamp(-1, 1)
        now, then = alpha_bars[step], alpha_bars[step + 1]
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()  # eq. 16 of DDIM
        x = then.sqrt() * x0 + (1 - then - sigma**2).sqrt() * eps  # eq. 12 of DDIM
        if eta > 0 and generators is not None:
            x = x + sigma * noise_like(x, generators=generators)
    return x


def sampling_timesteps(timesteps: int, *, steps: int, spacing: Spacing = "leading") -> list[int]:
    """The timesteps visited, the noisiest first.

    "leading" is DCFace's: 950, 900, .., 0 for 20 of 1000, which never visits the noisiest; "trailing" starts there:
    999, 949, .., 49. Raises ModelError unless 1 <= steps <= timesteps.
    """
    if not 1 <= steps <= timesteps:
        raise ModelError(f"steps: got {steps}; allowed: 1 to {timesteps}")
    if spacing == "leading":
        return [index * (timesteps // steps) for index in reversed(range(steps))]
    return [round(timesteps * index / steps) - 1 for index in range(steps, 0, -1)]


def noise_like(x: Tensor, *, generators: Sequence[torch.Generator]) -> Tensor:
    """Normal noise shaped as x, row i from generators[i]."""
    rows = [torch.randn(x.shape[1:], generator=generator, device=generator.device) for generator in generators]
    return torch.stack(rows).to(x.device)
