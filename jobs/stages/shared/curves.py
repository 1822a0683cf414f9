"""Measured cosines by what was asked for: mean, standard deviation and count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shards.tars.records import Asked, Groups


def curve_of(pairs: Sequence[tuple[float, float]], *, asked: str) -> list[dict[str, Any]]:
    """A row per value, rising, from pairs (value asked for, measured cosine); `asked` is the key of the value."""
    values, cosines = (np.array(column) for column in zip(*pairs, strict=True))
    return [{asked: float(value), **_statistics(cosines[values == value])} for value in np.unique(values)]


def cosines_by_asked(asked: Sequence[Asked], cosines: Sequence[float]) -> list[dict[str, Any]]:
    """A row for each key of `asked` and each of its groups: {key: value, "mean", "std", "images"}."""
    groups, found = Groups(asked), np.asarray(cosines)
    rows = []
    for key, labels in groups.labels.items():
        own = np.array([groups.label(key, one[key]) if key in one else "" for one in asked], object)
        first = {groups.label(key, one[key]): one[key] for one in reversed(asked) if key in one}
        for label in labels:
            rows.append({key: first[label], **_statistics(found[own == label])})
    return rows


def _statistics(cosines: np.ndarray) -> dict[str, Any]:
    return {
        "mean": round(float(cosines.mean()), 4),
        "std": round(float(cosines.std()), 4),
        "images": len(cosines),
    }
