"""From a requested cosine to the m that gives it: the measured curve, made monotone and inverted.

The m of the paper is only monotone: generated with m = 0, its images have a cosine of 0.285 to their inquiry (table 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cemiface.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Points of a strictly rising curve, by m; between them it is straight."""

    m: tuple[float, ...]
    cosine: tuple[float, ...]

    def m_for(self, cosine: float) -> float:
        """The m whose images have that mean cosine to their inquiry.

        Raises:
            ModelError: it is outside the range that the pilot reached.
        """
        low, high = self.cosine[0], self.cosine[-1]
        if not low <= cosine <= high:
            raise ModelError(
                f"generate: got a requested cosine of {cosine}; allowed: {low:.3f} to {high:.3f}, what the pilot of "
                "calibrate reached; change generate.similarity or generate.mixture"
            )
        return float(np.interp(cosine, self.cosine, self.m))


def fit_calibration(m: Sequence[float], *, means: Sequence[float]) -> Calibration:
    """The rising curve nearest to the measured means, in least squares (pool adjacent violators).

    `m` rises; every mean is over the same number of images. Neighbors that do not rise become one point at the middle
    of their m.

    Raises:
        ModelError: nothing rises, so that different m cannot be distinguished.
    """
    pools: list[tuple[float, float, int]] = []  # sum of m, sum of means, points
    for point, mean in zip(m, means, strict=True):
        pool = (point, mean, 1)
        while pools and pools[-1][1] * pool[2] >= pool[1] * pools[-1][2]:  # the mean before is not below
            before = pools.pop()
            pool = (before[0] + pool[0], before[1] + pool[1], before[2] + pool[2])
        pools.append(pool)
    if len(pools) < 2:
        raise ModelError(
            f"calibrate: the measured cosine does not rise with m ({means[0]:.3f} at {m[0]}, {means[-1]:.3f} at "
            f"{m[-1]}); train the denoiser longer, or set generate.target: m"
        )
    return Calibration(m=tuple(a / n for a, _, n in pools), cosine=tuple(b / n for _, b, n in pools))
