"""How much pictures resemble the portraits of their identity under a judge, as means of each identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cemiface.measures.score_intervals import drawn_identities, interval
from cemiface.recognition.verification import unit_rows

DIGITS = 4


def identity_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean (L,) of the values (N,) of each identity, whose labels are 0..L-1."""
    means: np.ndarray = np.bincount(labels, weights=values) / np.bincount(labels)
    return means


def portrait_likeness(unit: np.ndarray, labels: np.ndarray, portraits: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Of pictures (N, E) of identities 0..L-1 to the portraits (P, E) of each; all are rows of length 1.

    `to_center` (L,) is the cosine to the center of the portraits; `copying` (L,) how much nearer the nearest portrait
    is than the center.
    """
    centers = unit_rows(np.stack([rows.mean(axis=0) for rows in portraits]))
    center = np.einsum("ne,ne->n", unit, centers[labels])
    nearest = np.array([(portraits[label] @ row).max() for row, label in zip(unit, labels, strict=True)])
    return {"to_center": identity_means(center, labels), "copying": identity_means(nearest - center, labels)}


def mated_means(unit: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean cosine (L,) of two different pictures of each identity, which has two at least; rows of length 1."""
    counts, sums = np.bincount(labels), np.zeros((int(labels.max()) + 1, unit.shape[1]))
    np.add.at(sums, labels, unit)
    means: np.ndarray = (np.square(sums).sum(axis=1) - counts) / (counts * (counts - 1))
    return means


def mean_intervals(columns: Mapping[str, np.ndarray], *, seed: int, rounds: int) -> dict[str, Any]:
    """The mean over identities of each column (L,), with its 95 % bootstrap interval over identities."""
    count = len(next(iter(columns.values())))

    def means(draw: np.random.Generator) -> dict[str, float]:
        weights = drawn_identities(count, draw=draw)
        return {name: float((weights * values).sum() / count) for name, values in columns.items()}

    bounds = interval(means, seed=seed, rounds=rounds)
    return {
        name: {
            "value": round(float(values.mean()), DIGITS),
            "interval": [round(bound, DIGITS) for bound in bounds[name]],
        }
        for name, values in columns.items()
    }


def paired(
    ours: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], *, seed: int, rounds: int
) -> dict[str, Any]:
    """Means of two sets of the same identities, by name (L,), and of the difference within each identity."""
    return {
        name: mean_intervals(
            {"set": ours[name], "untuned": others[name], "difference": ours[name] - others[name]},
            seed=seed,
            rounds=rounds,
        )
        for name in ours
    }
