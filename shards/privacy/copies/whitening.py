"""Whitening of pictures inside a mask, without the mean face, brightness and slopes of light.

Faces look alike: unwhitened pictures of two people correlate as much as a picture and its crop do. What tells a
picture is what it has beside the mean face and the usual variation of faces. So pictures are compared after whitening
by the covariance of the references, exactly that of the cells that are visible (a whitening of the whole picture would
mix in cells that the query does not have). Subtracting the projection on the mean face and on planes makes the
comparison independent of brightness, contrast and light from one side; a negative only changes its sign.
"""

from __future__ import annotations

import numpy as np

from shards.privacy.copies.views import CELLS, GRID

NOISE = 0.12  # added to the variances, in mean variances: details that JPEG and resampling destroy count less

FLAT = 4.0  # squared gray levels, added to the variance of a picture: flat ones stay near 0


def ignored_shapes(mean: np.ndarray) -> np.ndarray:
    """(400, 4): the mean face, a constant, and two slopes."""
    slope = (np.arange(GRID) - (GRID - 1) / 2) * 2 / GRID
    across, down = np.tile(slope, GRID), np.repeat(slope, GRID)
    return np.stack([np.ones(CELLS), mean, across, down], axis=1)


def standardized(cells: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Cells (N, 400) without the ignored shapes, with a variance of about 1."""
    shapes = np.linalg.qr(ignored_shapes(mean))[0]
    rest = cells - (cells @ shapes) @ shapes.T
    unit: np.ndarray = rest / np.sqrt((rest**2).mean(axis=1, keepdims=True) + FLAT)
    return unit


def covariance_of(cells: np.ndarray) -> np.ndarray:
    """(400, 400) covariance of standardized cells (N, 400), shrunk to a stationary one where there are few pictures.

    The stationary one has at each distance the mean over all pairs of cells at that distance. Its weight is the share
    of 400 in 400 + N.
    """
    found = (cells.T.astype(np.float64) @ cells) / len(cells)
    row, column = np.divmod(np.arange(CELLS), GRID)
    apart = abs(row[:, None] - row) * GRID + abs(column[:, None] - column)
    means = np.bincount(apart.reshape(-1), found.reshape(-1)) / np.maximum(1, np.bincount(apart.reshape(-1)))
    weight = CELLS / (CELLS + len(cells))
    values, axes = np.linalg.eigh((1 - weight) * found + weight * means[apart])
    positive: np.ndarray = (axes * values.clip(0)) @ axes.T  # means over pairs need not be a covariance
    return positive


def whitening(covariance: np.ndarray, shapes: np.ndarray, *, noise: float = NOISE) -> np.ndarray:
    """(V, V) matrix W: W x is white for x of this covariance (V, V) and noise, and 0 for the shapes (V, 4).

    W = (1 - Q Q') L^-1, where L L' is the covariance and Q spans L^-1 shapes: generalized least squares.
    """
    noisy = covariance + noise * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(np.linalg.cholesky(noisy))
    basis = np.linalg.qr(inverse @ shapes)[0]
    return np.asarray(inverse - basis @ (basis.T @ inverse), np.float64)
