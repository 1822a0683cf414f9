"""The report's part on the portraits: sheets of edited faces, and how far each attribute moved."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.frame.run import Run
from jobs.methods.gandiffface.directions.plan import NAME as DIRECTIONS
from jobs.methods.gandiffface.portraits.plan import NAME, STAGE
from jobs.report.faces import Picture, picture_of, spread_places
from jobs.report.part import Section, Sets, summary
from shards.tars.shard_set import ShardSet

PEOPLE, COLUMNS = 8, 8


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The portraits of some identities, from the smallest to the largest step along one attribute; "" without edits."""

    attribute: str
    rows: tuple[tuple[Picture, ...], ...]


def portraits(run: Run, sets: Sets) -> Section:
    """A sheet per edited attribute, and a line per direction; of portraits without edits one sheet."""
    done, fitted = summary(run, NAME), summary(run, DIRECTIONS)
    if not done:
        return None
    shards = ShardSet([run.stage_folder(NAME).output(unit.tar) for unit in run.ledger.units(STAGE)])
    moved = done.figures["moved"]
    return {
        "portraits": done.figures["portraits"],
        "identities": done.figures["identities"],
        "cosine": done.figures["cosine_to_unedited"],
        "outcomes": dict(done.counts),
        "directions": {
            name: {
                **found,
                "per_step": moved.get(name, {}).get("per_step"),
                "moved": moved.get(name, {}).get("correlation"),
            }
            for name, found in (fitted.figures["attributes"] if fitted else {}).items()
        },
        "sheets": [_sheet(shards, name) for name in moved] or [_in_order(shards)],
    }


def _sheet(shards: ShardSet, attribute: str) -> Sheet:
    """The first identities, their portraits ordered by the step along the attribute; the unedited one has step 0."""
    by_person: dict[int, list[tuple[float, int]]] = {}
    for row, label in enumerate(shards.labels.tolist()):
        if label < PEOPLE:
            step = float(shards.record(row)["asked"].get(attribute, 0.0))
            by_person.setdefault(label, []).append((step, row))
    rows = []
    for label in sorted(by_person):
        ordered = sorted(by_person[label])
        ordered = [ordered[place] for place in spread_places(len(ordered), COLUMNS)]
        pictures = [
            picture_of(shards, row, alt=f"{shards.classes[label]}, {attribute} {step:+.2f}", caption=f"{step:+.1f}")
            for step, row in ordered
        ]
        rows.append(tuple(pictures))
    return Sheet(attribute=attribute, rows=tuple(rows))


def _in_order(shards: ShardSet) -> Sheet:
    """The first identities and their portraits, each with its cosine to the first one."""
    rows: dict[int, list[Picture]] = {}
    for row, label in enumerate(shards.labels.tolist()):
        if label < PEOPLE and len(rows.setdefault(label, [])) < COLUMNS:
            cosine = f"{shards.record(row)['cosine']:.2f}"
            alt = f"{shards.classes[label]}, cosine to its first portrait {cosine}"
            rows[label].append(picture_of(shards, row, alt=alt, caption=cosine))
    return Sheet(attribute="", rows=tuple(tuple(rows[label]) for label in sorted(rows)))
