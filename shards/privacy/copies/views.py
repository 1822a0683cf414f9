"""Views: where the parts of a reference lie in a picture that is cropped, shifted, enlarged or rotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.privacy.copies.pictures import SIDE

GRID = 20  # cells of a reference's side that are compared: 14 of them are left of it after a crop of 30 %

CELLS = GRID * GRID

MARGIN = 0.25  # of a cell: what lies closer to the edge of the picture is not compared

_SAMPLES = np.array([-0.25, 0.25])  # in each cell, along either axis


@dataclass(frozen=True, kw_only=True)
class View:
    """What a picture shows of a reference.

    Attributes:
        scale: the part of the reference's width that fills the picture; above 1, the reference is smaller than it.
        degrees: rotation.
        x, y: center of that part, in widths from the reference's center.
    """

    scale: float = 1.0
    degrees: float = 0.0
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Reads the cells of a reference from pictures that show it in some view: separably, or by one matrix.

    Attributes:
        visible: (400,) bool, the cells that lie in the picture.
        rows, columns: (20, 32) weights, of a view without rotation.
        matrix: (400, 1024) weights, of the others.
    """

    visible: np.ndarray
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    matrix: np.ndarray | None = None

    def cells(self, pictures: np.ndarray) -> np.ndarray:
        """(N, V) the visible cells in pictures (N, 32, 32)."""
        if self.matrix is not None:
            rotated: np.ndarray = pictures.reshape(len(pictures), -1) @ self.matrix[self.visible].T
            return rotated
        assert self.rows is not None
        assert self.columns is not None
        cells: np.ndarray = (self.rows @ pictures @ self.columns.T).reshape(len(pictures), -1)[:, self.visible]
        return cells


def sampling_of(view: View, *, margin: float = MARGIN) -> Sampling:
    """How to read the cells of a reference from a picture that shows it in this view. Cells are means of 4 samples."""
    centers = np.arange(GRID) - (GRID - 1) / 2
    points = (centers[:, None] + _SAMPLES).reshape(-1)  # 40 samples of 20 cells
    across, down = (points - view.x * GRID) / view.scale, (points - view.y * GRID) / view.scale
    if not view.degrees:
        inside = [(abs(axis) <= GRID / 2 - margin).reshape(GRID, 2).all(1) for axis in (down, across)]
        rows, columns = (_weights(axis).reshape(GRID, 2, SIDE).mean(1).astype(np.float32) for axis in (down, across))
        return Sampling(visible=np.outer(*inside).reshape(-1), rows=rows, columns=columns)
    angle = np.deg2rad(view.degrees)
    x = np.cos(angle) * across[None, :] - np.sin(angle) * down[:, None]
    y = np.sin(angle) * across[None, :] + np.cos(angle) * down[:, None]
    inside = ((abs(x) <= GRID / 2 - margin) & (abs(y) <= GRID / 2 - margin)).reshape(GRID, 2, GRID, 2).all((1, 3))
    both = _weights(y.reshape(-1))[:, :, None] * _weights(x.reshape(-1))[:, None, :]
    cells = both.reshape(GRID, 2, GRID, 2, SIDE * SIDE).mean((1, 3)).reshape(CELLS, SIDE * SIDE)
    return Sampling(visible=inside.reshape(-1), matrix=cells.astype(np.float32))


def grid_of(pictures: np.ndarray) -> np.ndarray:
    """(N, 400) float32 cells of whole pictures (N, 1024)."""
    whole = sampling_of(View(), margin=0)
    return whole.cells(pictures.reshape(-1, SIDE, SIDE).astype(np.float32))


def squares(step: float, count: int) -> Sequence[tuple[float, float]]:
    """`count` x `count` offsets around 0, `step` apart."""
    places = [(place - (count - 1) / 2) * step for place in range(count)]
    return [(x, y) for y in places for x in places]


def _weights(points: np.ndarray) -> np.ndarray:
    """(P, 32) bilinear weights of points along one axis, given in cells from the center; beyond it, of the edge."""
    places = (points * SIDE / GRID + (SIDE - 1) / 2).clip(0, SIDE - 1)
    left = np.minimum(places.astype(int), SIDE - 2)
    weights = np.zeros((len(points), SIDE))
    rows = np.arange(len(points))
    weights[rows, left] = 1 - (places - left)
    weights[rows, left + 1] = places - left
    return weights
