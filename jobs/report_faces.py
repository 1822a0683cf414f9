"""The report's pictures: JPEG bytes straight from the tars, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.generate_faces import SYNTHETIC
from jobs.make_identities import INQUIRIES
from jobs.shard_faces import HELD_OUT, REAL
from jobs.stage import Run
from shards.shard_set import ShardSet

IDENTITIES = 12  # rows of the grid, and real people beside it
COLUMNS = 12  # generated faces in a row, about
PAIRS = 12
REASONS = {
    "exact_pixels": "the same pixels as a real face",
    "exact_mirrored": "the same pixels as a mirrored real face",
    "near_pixels": "nearly the same pixels as a real face",
    "near_mirrored": "nearly the same pixels as a mirrored real face",
    "too_similar": "cosine to a real face at or above the threshold",
}  # in order of strictness


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
    """A synthetic face that was dropped, and the real one it is too close to."""

    synthetic: Picture
    real: Picture
    caption: str


def real_set(run: Run) -> ShardSet:
    return ShardSet(run.outputs("shard", prefix=f"{REAL}-", suffix=".tar"))


def held_out_set(run: Run) -> ShardSet | None:
    """The faces kept for verification; None where nobody was held out."""
    tars = run.outputs("shard", prefix=f"{HELD_OUT}-", suffix=".tar")
    return ShardSet(tars) if tars else None


def synthetic_set(run: Run) -> ShardSet:
    return ShardSet(run.outputs("generate", prefix=f"{SYNTHETIC}-", suffix=".tar"))


def real_faces(real: ShardSet) -> list[Picture]:
    """The first photo of some training people."""
    people = _spread(len(real.classes), IDENTITIES)
    rows = [int(np.flatnonzero(real.labels == person)[0]) for person in people]
    return [_picture(real, row, alt=f"real training face {real.keys[row]}") for row in rows]


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


def closest_pairs(leaks: Sequence[Mapping[str, Any]], *, synthetic: ShardSet, real: ShardSet) -> list[Pair]:
    """The worst leaks, one per synthetic face: pixel reasons first, then by falling cosine."""
    strictness = list(REASONS)

    def badness(leak: Mapping[str, Any]) -> tuple[int, float, str]:
        return strictness.index(leak["reason"]), -(leak["cosine"] or 0.0), leak["key"]

    worst: dict[str, Mapping[str, Any]] = {}
    for leak in sorted(leaks, key=badness):
        worst.setdefault(leak["key"], leak)
    pairs = []
    for key, leak in list(worst.items())[:PAIRS]:
        reason = leak["reason"].replace("_", " ") if leak["cosine"] is None else f"cosine {leak['cosine']:.3f}"
        pairs.append(
            Pair(
                synthetic=_picture(synthetic, synthetic.keys.index(key), alt=f"synthetic face {key}"),
                real=_picture(real, real.keys.index(leak["real_key"]), alt=f"real face {leak['real_key']}"),
                caption=reason,
            )
        )
    return pairs


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
