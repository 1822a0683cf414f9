"""The pictures beside the card: images of the set, and one of them altered in the ways that an audit looks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from shards.images.jpeg import encode_jpeg
from shards.privacy.copies.alterations import ALTERATIONS, altered
from shards.tars.records import asked_of, sort_key
from shards.tars.shard_set import ShardSet

ROWS, COLUMNS = 8, 12  # of the sheet of samples

PER_ROW = 8  # of the sheet of alterations

QUALITY = 92


def sample_sheet(shards: ShardSet) -> bytes:
    """A sheet of the set: one person per row, ordered by what was asked of the images."""
    records = list(shards.records())
    people = shards.classes[:: max(1, len(shards.classes) // ROWS)][:ROWS]
    rows = []
    for person in people:
        own = sorted(
            (sort_key(asked_of(record)), row) for row, record in enumerate(records) if record["identity"] == person
        )
        picked = [own[place][1] for place in np.linspace(0, len(own) - 1, COLUMNS).round().astype(int)]
        rows.append([shards.rgb(row) for row in dict.fromkeys(picked)])
    return encode_jpeg(np.concatenate(list(_filled(rows, COLUMNS))), quality=QUALITY)


def alteration_sheet(image: np.ndarray, names: Sequence[str]) -> bytes:
    """An image (H, W, 3) of the set, altered in these ways, row by row in their order. It shows no real person."""
    tiles = [altered(image, name, seed="sheet") for name in names if name in ALTERATIONS]
    return encode_jpeg(np.concatenate(list(_filled([list(row) for row in _rows(tiles)], PER_ROW))), quality=QUALITY)


def _rows(tiles: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    for first in range(0, len(tiles), PER_ROW):
        yield tiles[first : first + PER_ROW]


def _filled(rows: Sequence[Sequence[np.ndarray]], columns: int) -> Iterator[np.ndarray]:
    """Rows of equal length, with white at the end of short ones."""
    for row in rows:
        blank = np.full_like(row[0], 255)
        yield np.concatenate([*row, *[blank] * (columns - len(row))], axis=1)
