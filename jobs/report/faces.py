"""The report's pictures: JPEG bytes straight from the tars, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.frame.run import Run
from jobs.report.part import Section, Sets
from shards.tars.records import Asked, asked_of, sort_key
from shards.tars.shard_set import ShardSet

IDENTITIES = 12  # rows of the grid, and real people beside it

COLUMNS = 12  # generated faces in a row, about


@dataclass(frozen=True, kw_only=True)
class Picture:
    src: str
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class GridRow:
    identity: str
    first: Picture | None  # the identity's first face, where the method has one
    faces: tuple[Picture | None, ...]  # None where an identity has fewer images of a value than others


@dataclass(frozen=True, kw_only=True)
class FaceGrid:
    """Some identities, their faces ordered by what was asked; each value heads `span` columns."""

    asked: tuple[str, ...]
    span: int
    rows: tuple[GridRow, ...]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic face, and the real one it is close to."""

    synthetic: Picture
    real: Picture
    caption: str


def real_faces(real: ShardSet) -> list[Picture]:
    """The first photo of some training people."""
    people = _spread(len(real.classes), IDENTITIES)
    rows = [int(np.flatnonzero(real.labels == person)[0]) for person in people]
    return [_picture(real, row, alt=f"real training face {real.keys[row]}") for row in rows]


def faces(run: Run, sets: Sets) -> Section:
    """The grid of generated faces, and real ones for comparison."""
    if sets.real is None and sets.synthetic is None:
        return None
    return {
        "grid": face_grid(run, sets.synthetic) if sets.synthetic else None,
        "real_faces": real_faces(sets.real) if sets.real else [],
    }


def face_grid(run: Run, synthetic: ShardSet) -> FaceGrid:
    """Identities and similarities spread evenly over those of the set."""
    asked = sorted({tuple(sorted(asked_of(record).items())) for record in synthetic.records()}, key=_order)
    shown = [dict(asked[place]) for place in _spread(len(asked), COLUMNS)]
    span = max(1, COLUMNS // len(shown))
    path = run.method.identity_faces(run)
    first_faces = ShardSet([path]) if path else None
    people = [synthetic.classes[place] for place in _spread(len(synthetic.classes), IDENTITIES)]
    rows = []
    for person in people:
        own = np.flatnonzero(synthetic.labels == synthetic.classes.index(person))
        records = [(int(row), synthetic.record(int(row))) for row in own]
        faces: list[Picture | None] = []
        for wanted in shown:
            found = [_generated(synthetic, row, record) for row, record in records if asked_of(record) == wanted]
            found = found[:span]
            faces += [*found, *[None] * (span - len(found))]
        first = None
        if first_faces:
            first = _picture(first_faces, first_faces.keys.index(person), alt=f"first face of {person}")
        rows.append(GridRow(identity=person, first=first, faces=tuple(faces)))
    return FaceGrid(asked=tuple(map(words_of, shown)), span=span, rows=tuple(rows))


def _order(asked: tuple[tuple[str, float | str], ...]) -> tuple[object, ...]:
    return sort_key(dict(asked))


def words_of(asked: Asked) -> str:
    """What was asked of an image, for people, e.g. "m = 0.5"."""
    words = (f"{key} = {value if isinstance(value, str) else format(value, 'g')}" for key, value in asked.items())
    return ", ".join(words).replace("-", "\N{MINUS SIGN}")


def pair(key: str, real_name: str, *, caption: str, synthetic: ShardSet, real: ShardSet) -> Pair:
    """A synthetic face beside a real image, or beside the first image of the identity whose center it is close to."""
    row = real.row_of(real_name)
    return Pair(
        synthetic=_picture(synthetic, synthetic.keys.index(key), alt=f"synthetic face {key}"),
        real=_picture(real, row, alt=f"real face {real.keys[row]}"),
        caption=caption,
    )


def _generated(synthetic: ShardSet, row: int, record: Mapping[str, Any]) -> Picture:
    measured = record.get("measured_cosine")
    caption = "" if measured is None else f"{measured:.2f}".replace("-", "\N{MINUS SIGN}")
    alt = f"{record['identity']}, {words_of(asked_of(record))}" + (f", measured cosine {caption}" if caption else "")
    return _picture(synthetic, row, alt=alt, caption=caption)


def _picture(shards: ShardSet, row: int, *, alt: str, caption: str = "") -> Picture:
    return Picture(
        src="data:image/jpeg;base64," + base64.b64encode(shards.jpeg(row)).decode(), alt=alt, caption=caption
    )


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the places 0..count-1, evenly apart."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, limit)).round())]
