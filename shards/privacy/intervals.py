"""Confidence intervals of rates."""

from __future__ import annotations

Z = 1.96  # of the normal distribution, for 95 %


def wilson(found: int, tried: int) -> tuple[float, float]:
    """The 95 % interval of a rate, `found` of `tried` (Wilson, 1927); (0, 1) if nothing was tried."""
    if not tried:
        return 0.0, 1.0
    rate, square = found / tried, Z**2 / tried
    center = (rate + square / 2) / (1 + square)
    reach = Z * (rate * (1 - rate) / tried + square / (4 * tried)) ** 0.5 / (1 + square)
    return max(0.0, center - reach), min(1.0, center + reach)
