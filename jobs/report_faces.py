"""The report's pictures: JPEG bytes straight from the tars, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.audit_figures import real_row
from jobs.make_identities import INQUIRIES
from jobs.report_part import Section, Sets
from jobs.stage import Run
from shards.shard_set import ShardSet

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
    inquiry: Picture
    faces: tuple[Picture | None, ...]  # None where an identity has fewer images of an m than others


@dataclass(frozen=True, kw_only=True)
class FaceGrid:
    """Some identities, their faces ordered by m; each m heads `span` columns."""

    similarities: tuple[float, ...]
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
    wished = sorted({record["m"] for record in synthetic.records()})
    shown = [wished[place] for place in _spread(len(wished), COLUMNS)]
    span = max(1, COLUMNS // len(shown))
    inquiries = ShardSet(run.outputs("identities", prefix=INQUIRIES, suffix=".tar"))
    people = [synthetic.classes[place] for place in _spread(len(synthetic.classes), IDENTITIES)]
    rows = []
    for person in people:
        own = np.flatnonzero(synthetic.labels == synthetic.classes.index(person))
        records = [(int(row), synthetic.record(int(row))) for row in own]
        faces: list[Picture | None] = []
        for m in shown:
            found = [_generated(synthetic, row, record) for row, record in records if record["m"] == m][:span]
            faces += [*found, *[None] * (span - len(found))]
        inquiry = _picture(inquiries, inquiries.keys.index(person), alt=f"inquiry face of {person}", caption="inquiry")
        rows.append(GridRow(identity=person, inquiry=inquiry, faces=tuple(faces)))
    return FaceGrid(similarities=tuple(shown), span=span, rows=tuple(rows))


def pair(key: str, real_name: str, *, caption: str, synthetic: ShardSet, real: ShardSet) -> Pair:
    """A synthetic face beside a real image, or beside the first image of the identity whose center it is close to."""
    row = real_row(real, real_name)
    return Pair(
        synthetic=_picture(synthetic, synthetic.keys.index(key), alt=f"synthetic face {key}"),
        real=_picture(real, row, alt=f"real face {real.keys[row]}"),
        caption=caption,
    )


def _generated(synthetic: ShardSet, row: int, record: Mapping[str, Any]) -> Picture:
    measured = f"{record['measured_cosine']:.2f}".replace("-", "\N{MINUS SIGN}")
    alt = f"{record['identity']}, wished m {record['m']:g}, measured cosine {measured}"
    return _picture(synthetic, row, alt=alt, caption=measured)


def _picture(shards: ShardSet, row: int, *, alt: str, caption: str = "") -> Picture:
    return Picture(
        src="data:image/jpeg;base64," + base64.b64encode(shards.jpeg(row)).decode(), alt=alt, caption=caption
    )


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the places 0..count-1, evenly apart."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, limit)).round())]
