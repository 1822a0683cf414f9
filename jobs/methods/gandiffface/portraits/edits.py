"""The edits of an identity: how far each portrait is moved along each direction, and when an edit has succeeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jobs.frame.seeds import derive


def drawn_steps(limits: Mapping[str, float], *, portraits: int, seed: int, candidate: int) -> list[dict[str, float]]:
    """The steps of each portrait in standard deviations, {} for the first one, which is not edited.

    Each attribute's range is cut into as many parts as there are edited portraits, and each part is used once (Latin
    hypercube sampling), so that few portraits cover the whole range. Follows from (seed, candidate) alone.
    """
    draw = np.random.default_rng(derive(seed, "portrait edits", candidate))
    edited = portraits - 1
    columns = {
        name: (2 * (draw.permutation(edited) + draw.random(edited)) / edited - 1) * limits[name]
        for name in sorted(limits)
    }
    return [{}] + [{name: float(column[row]) for name, column in columns.items()} for row in range(edited)]


def strongest(steps: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """The attribute with the largest step, as a share of its limit."""
    return max(sorted(steps), key=lambda name: abs(steps[name]) / limits[name])


def halved(steps: Mapping[str, float]) -> dict[str, float]:
    return {name: step / 2 for name, step in steps.items()}


def moved_as_asked(name: str, step: float, *, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether the measured attribute changed in the direction of the step."""
    return (after[name] - before[name]) * step > 0


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) cosines of rows (N, E) to the rows of `others` (N, E)."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    found: np.ndarray = (rows * others).sum(axis=1) / np.maximum(lengths, 1e-12)
    return found


def limits_of(asked: Mapping[str, float], *, directions: Sequence[str]) -> dict[str, float]:
    """The limits of the attributes that have a direction and are to be edited."""
    return {name: limit for name, limit in asked.items() if limit > 0 and name in directions}
