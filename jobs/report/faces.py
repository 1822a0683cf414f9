"""The report's part on faces, and the pictures of other parts: JPEG bytes of the tars as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.frame.run import Run
from jobs.report.numbers import MINUS
from jobs.report.part import Section, Sets
from jobs.report.real_images import RealImages
from shards.images.jpeg import encode_jpeg
from shards.tars.records import Asked, Groups, asked_of, sort_key
from shards.tars.shard_set import ShardSet

IDENTITIES = 12  # rows of the grid, and real people shown for comparison
COLUMNS = 12  # generated faces in a row, about

Column = Mapping[str, str]  # by key, the group that the faces of a column are in


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image of the page; `src` is a data URI."""

    src: str
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """An identity of the grid.

    Attributes:
        first: the identity's own face, None where the method has none.
        faces: generated ones in the columns' order; None where the identity has too few of a column's group.
    """

    identity: str
    first: Picture | None
    faces: tuple[Picture | None, ...]


@dataclass(frozen=True, kw_only=True)
class FaceGrid:
    """Some identities, their faces ordered by what was asked for.

    Attributes:
        asked: the groups of what was asked for; each heads `span` columns.
        with_first: whether identities have a face of their own.
        measured: whether the records have a measured cosine to it.
    """

    asked: tuple[str, ...]
    span: int
    rows: tuple[GridRow, ...]
    with_first: bool
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic face, and the real one it is close to; None where the run has no picture of it."""

    synthetic: Picture
    real: Picture | None
    caption: str


def faces(run: Run, sets: Sets) -> Section:
    """The grid of generated faces, and real ones for comparison."""
    if sets.real is None and sets.synthetic is None:
        return None
    return {
        "grid": face_grid(run, sets.synthetic) if sets.synthetic else None,
        "real_faces": real_faces(sets.real) if sets.real else [],
    }


def real_faces(real: ShardSet) -> list[Picture]:
    """The first image of some training people."""
    people = spread_places(len(real.classes), IDENTITIES)
    rows = [int(np.flatnonzero(real.labels == person)[0]) for person in people]
    return [picture_of(real, row, alt=f"real training face {real.keys[row]}") for row in rows]


def face_grid(run: Run, synthetic: ShardSet) -> FaceGrid:
    """Identities, and groups of what was asked for, spread evenly over those of the set."""
    asked = [asked_of(record) for record in synthetic.records()]
    groups = Groups(asked)
    people = {
        person: np.flatnonzero(synthetic.labels == person).tolist()
        for person in spread_places(len(synthetic.classes), IDENTITIES)
    }
    columns = _columns(groups, asked, people)
    span = max(1, COLUMNS // len(columns))
    path = run.method.identity_faces(run)
    own_faces = ShardSet([path]) if path else None
    rows = []
    for person, pictures in people.items():
        identity, left = synthetic.classes[person], list(pictures)
        faces: list[Picture | None] = []
        for column in columns:
            found = [row for row in left if _shows(groups, asked[row], column)][:span]
            left = [row for row in left if row not in found]
            shown = [_generated(synthetic, row, asked=text_of(column)) for row in found]
            faces += [*shown, *[None] * (span - len(found))]
        first = None
        if own_faces:
            first = picture_of(own_faces, own_faces.keys.index(identity), alt=f"first face of {identity}")
        rows.append(GridRow(identity=identity, first=first, faces=tuple(faces)))
    return FaceGrid(
        asked=tuple(map(text_of, columns)),
        span=span,
        rows=tuple(rows),
        with_first=own_faces is not None,
        measured=any(face.caption for row in rows for face in row.faces if face),
    )


def _columns(groups: Groups, asked: Sequence[Asked], people: Mapping[int, Sequence[int]]) -> list[Column]:
    """At most COLUMNS groups of what was asked for, spread evenly.

    Where most people lack most of the combinations, as of prompts with many parts, a column is one value of one part:
    of those parts that differ between the pictures of a person.
    """
    order = {tuple(groups.of(one).items()): sort_key(one) for one in asked}
    every = [dict(one) for one in sorted(order, key=order.__getitem__)]
    combinations: list[Column] = [every[place] for place in spread_places(len(every), COLUMNS)]
    cells = [
        any(_shows(groups, asked[row], column) for row in rows) for column in combinations for rows in people.values()
    ]
    varied = {
        key
        for rows in people.values()
        for key in groups.labels
        if len({groups.of(asked[row]).get(key) for row in rows} - {None}) > 1
    }
    if 2 * sum(cells) >= len(cells) or not varied:
        return combinations
    single: list[Column] = [{key: label} for key in sorted(varied) for label in groups.labels[key]]
    return [single[place] for place in spread_places(len(single), COLUMNS)]


def _shows(groups: Groups, asked: Asked, column: Column) -> bool:
    return column.items() <= groups.of(asked).items()


def text_of(column: Column) -> str:
    """A group of what was asked for, e.g. "color = red, shape = disk"."""
    return ", ".join(f"{key} = {_minus(text)}" for key, text in sorted(column.items()))


def _minus(text: str) -> str:
    """A number with a true minus sign; any other text as it is."""
    try:
        float(text)
    except ValueError:
        return text
    return text.replace("-", MINUS)


def pair(key: str, real_name: str, *, caption: str, synthetic: ShardSet, real: RealImages) -> Pair:
    """A synthetic face beside a real image, or beside the first image of the identity whose center it is close to."""
    jpeg = real.jpeg(real_name)
    return Pair(
        synthetic=picture_of(synthetic, synthetic.keys.index(key), alt=f"synthetic face {key}"),
        real=None if jpeg is None else Picture(src=_data_uri(jpeg), alt=f"real face {real_name}", caption=""),
        caption=caption,
    )


def _generated(synthetic: ShardSet, row: int, *, asked: str) -> Picture:
    record = synthetic.record(row)
    measured = record.get("measured_cosine")
    caption = "" if measured is None else f"{measured:.2f}".replace("-", MINUS)
    alt = f"{record['identity']}, {asked}" + (f", measured cosine {caption}" if caption else "")
    return picture_of(synthetic, row, alt=alt, caption=caption)


def picture_of(shards: ShardSet, row: int, *, alt: str, caption: str = "") -> Picture:
    """An image of a set as a picture of the page."""
    return Picture(src=_data_uri(shards.jpeg(row)), alt=alt, caption=caption)


def picture_of_pixels(rgb: np.ndarray, *, alt: str) -> Picture:
    """An image (H, W, 3) that is in no tar."""
    return Picture(src=_data_uri(encode_jpeg(rgb, quality=92)), alt=alt, caption="")


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def spread_places(count: int, limit: int) -> list[int]:
    """At most `limit` of the positions 0..count-1, evenly apart."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, limit)).round())]
