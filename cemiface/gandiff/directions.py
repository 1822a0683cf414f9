"""Directions in the latent space along which one attribute of a generated face changes.

GANDiffFace edits faces along the normals of separating hyperplanes in w, as InterFaceGAN does (Shen et al. 2020,
arXiv 2005.09635). The paper does not state how the normals were fitted. Here they are ridge regressions of the measured
attribute on w, because attributes such as yaw and age are numbers and not two classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

HELD_OUT = 0.3  # share of the samples that score a direction
MIN_SAMPLES = 50  # of an attribute; with fewer, the held-out correlation says nothing


class DirectionError(ValueError):
    """The samples do not determine a direction."""


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Unit normals of A attributes, orthogonal to each other, and what was measured of each.

    Attributes:
        names: of the attributes, sorted.
        normals: (A, W) float32; the attribute rises along its normal.
        scale: (A,) float32, standard deviation of the samples along each normal: the length of one step.
        correlation: (A,) float32, of the attribute and the position along its normal, on held-out samples.
        before: (A,) float32, the same before the normals were made orthogonal.
    """

    names: tuple[str, ...]
    normals: np.ndarray
    scale: np.ndarray
    correlation: np.ndarray
    before: np.ndarray

    def edited(self, w: np.ndarray, steps: Mapping[str, float]) -> np.ndarray:
        """w (W,) moved by so many standard deviations along the normals of these attributes."""
        moved = w.astype(np.float32)
        for name, step in steps.items():
            row = self.names.index(name)
            moved = moved + np.float32(step) * self.scale[row] * self.normals[row]
        return moved


def fit_directions(w: np.ndarray, attributes: Mapping[str, np.ndarray], *, ridge: float = 1e-2) -> Directions:
    """Fit a direction per attribute on 70 % of the samples and score it on the others.

    Args:
        w: (N, W) float32 latents.
        attributes: (N,) float32 each; samples where the value is NaN are left out for that attribute.
        ridge: penalty, as a share of the largest eigenvalue of the covariance of w.

    Raises:
        DirectionError: an attribute has too few samples, or does not vary.
    """
    names = tuple(sorted(attributes))
    held_out = np.arange(len(w)) % 10 >= round(10 * (1 - HELD_OUT))  # samples are independent, so any split will do
    found = np.stack([_normal(w, attributes[name], held_out=held_out, ridge=ridge, name=name) for name in names])
    normals = orthogonal(found)
    scores = [
        [_correlation(w @ rows[a], attributes[n], held_out) for a, n in enumerate(names)] for rows in (normals, found)
    ]
    return Directions(
        names=names,
        normals=normals.astype(np.float32),
        scale=(w @ normals.T).std(axis=0).astype(np.float32),
        correlation=np.array(scores[0], np.float32),
        before=np.array(scores[1], np.float32),
    )


def orthogonal(rows: np.ndarray) -> np.ndarray:
    """The orthonormal rows nearest to unit rows (A, W): (R R^T)^(-1/2) R (Loewdin 1950).

    Unlike Gram-Schmidt, it does not depend on the order of the rows.

    Raises:
        DirectionError: the rows are linearly dependent.
    """
    values, vectors = np.linalg.eigh(rows @ rows.T)
    if values.min() < 1e-6 * values.max():
        raise DirectionError("two attributes have the same direction; remove one of them")
    inverse_root: np.ndarray = vectors @ np.diag(values**-0.5) @ vectors.T @ rows
    return inverse_root


def _normal(w: np.ndarray, attribute: np.ndarray, *, held_out: np.ndarray, ridge: float, name: str) -> np.ndarray:
    """(W,) float64 unit vector along which a linear model of the attribute rises."""
    used = ~held_out & np.isfinite(attribute)
    if used.sum() < MIN_SAMPLES or attribute[used].std() < 1e-6:
        raise DirectionError(
            f"{name}: got {int(used.sum())} usable samples with a standard deviation of "
            f"{float(attribute[used].std()) if used.any() else 0.0:.3g}; allowed: at least {MIN_SAMPLES} samples that "
            "vary; make more candidates or leave the attribute out"
        )
    x = w[used].astype(np.float64)
    x -= x.mean(axis=0)
    y = attribute[used].astype(np.float64)
    y -= y.mean()
    covariance = x.T @ x / len(x)
    penalty = ridge * np.linalg.eigvalsh(covariance)[-1]
    solved = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), x.T @ y / len(x))
    normal: np.ndarray = solved / np.linalg.norm(solved)
    return normal


def _correlation(along: np.ndarray, attribute: np.ndarray, held_out: np.ndarray) -> float:
    """Pearson correlation on held-out samples; 0 where there are too few to say."""
    used = held_out & np.isfinite(attribute)
    if used.sum() < 3 or attribute[used].std() == 0:
        return 0.0
    return float(np.corrcoef(along[used], attribute[used])[0, 1])
