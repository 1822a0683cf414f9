"""The work of identities: cells of all candidates, shares of the cells, and the greedy choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from cemiface.errors import ModelError
from cemiface.gandiff.demographics import TargetError, candidates_needed, category, raked
from cemiface.recognition.selection import GreedyChoice, shares
from jobs.frame.products import EMBED, MERGED
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.candidates.plan import FACE
from jobs.methods.gandiffface.candidates.table import EMBEDDING, CandidateTable, read_table, tables
from jobs.methods.gandiffface.identities.plan import NAME, IdentitiesUnit, MakeIdentities, cell_labels
from jobs.methods.gandiffface.identities.table import Identity, IdentityTable
from shards.embeddings.centers import directions as unit_rows
from shards.embeddings.embeddings import open_merged
from shards.embeddings.nearest import NearestSearch
from shards.privacy.intervals import wilson

ALL = "all"  # the one cell where there is no target
STRANGER_PAIRS, STRANGER_RATE = 200_000, 0.001


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """The usable candidates: per table the rows and the cell of each; and how many were left out, by reason."""

    rows: list[np.ndarray] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counter[str]:
        return Counter(cell for part in self.cells for cell in part)


def run_rank(run: Run, rank: Rank) -> None:
    """Choose the identities."""
    for work in rank.remaining(IdentitiesUnit):
        _choose(run, work)


def _choose(run: Run, work: Work[IdentitiesUnit]) -> None:
    """Publish the table.

    Raises:
        ModelError: a cell has too few candidates and the config says to fail, or there are none at all.
    """
    config, paths = run.section(MakeIdentities), tables(run)
    pool = _usable(run, config, paths, work=work)
    wanted = _wanted(config, pool.counts())
    chosen, taken, spare = _greedy(config, paths, pool, wanted=wanted)
    _refuse_short(config, candidates=sum(len(cells) for cells in pool.cells), wanted=wanted, taken=taken)
    people = [
        Identity(
            candidate=one.candidate,
            cell=one.cell,
            attributes={name: round(value, 4) for name, value in one.attributes.items()},
            spares=tuple(spare[one.cell][place :: taken[one.cell]][: config.spares]),
        )
        for one, place in zip(chosen, _places(chosen), strict=True)
    ]
    stranger = _stranger_cosine(paths, seed=derive(run.seed, "pairs of candidates"))
    work.publish(work.unit.file, IdentityTable(identities=_numbered(run, people), stranger_cosine=stranger).as_json())
    figures = _figures(config, people, wanted=wanted, pool=pool, stranger=stranger)
    work.done(
        images=len(people), counts={"chosen": len(people), **dict(sorted(pool.left_out.items()))}, figures=figures
    )


def _usable(run: Run, config: MakeIdentities, paths: Sequence[Path], *, work: Work[IdentitiesUnit]) -> _Pool:
    """The candidates with a face, old enough, unlike every real person, and in a cell of the target."""
    centers = open_merged(run.stage_folder(EMBED).output(MERGED)).centers
    names = [str(number) for number in range(len(centers))]
    pool = _Pool()
    for path in paths:
        table = read_table(path, columns=(EMBEDDING,))
        nearest = NearestSearch(unit_rows(table.embedding))
        nearest.add(centers, names)
        rows, cells = [], []
        for row in range(len(table.numbers)):
            values = table.values(row)
            cell = _cell(config, values)
            reason = _why_not(config, values, nearest=float(nearest.cosine[row]), cell=cell)
            if reason is not None or cell is None:
                pool.left_out[str(reason)] += 1
                continue
            rows.append(row)
            cells.append(cell)
        pool.rows.append(np.array(rows, np.int64))
        pool.cells.append(cells)
        work.progress(len(table.numbers))
    return pool


def _why_not(config: MakeIdentities, values: Mapping[str, float], *, nearest: float, cell: str | None) -> str | None:
    """Why a candidate is not usable; None if it is."""
    if values.get(FACE, 1.0) < config.min_face:
        return "no_face"
    if values.get("age", config.min_age) < config.min_age:  # the plan says where age is not measured
        return "too_young"
    if nearest > config.max_cosine_to_real:
        return "like_a_real_person"
    return None if cell is not None else "in_no_cell"


def _cell(config: MakeIdentities, values: Mapping[str, float]) -> str | None:
    """The joint cell of a candidate; None if it has no label of some attribute.

    Raises:
        ModelError: an attribute of the target is not measured.
    """
    labels = []
    for name, shares_of in config.target.items():
        try:
            labels.append(category(name, values, labels=tuple(shares_of)))
        except (KeyError, ValueError):
            raise ModelError(
                f"{NAME}.target: got {name!r}, which no net measures; allowed: gender, age, or an attribute of a card "
                "in attributes.nets"
            ) from None
    return None if None in labels else ", ".join(str(label) for label in labels) or ALL


def _wanted(config: MakeIdentities, counts: Mapping[str, int]) -> dict[str, int]:
    """How many identities each cell gets.

    Raises:
        ModelError: there are no candidates, or empty cells make the shares impossible.
    """
    if not counts:
        raise ModelError(
            f"{NAME}: got no usable candidate; look at the counts of candidates, lower min_face or min_age"
        )
    if not config.target:
        return {ALL: config.count}
    if config.joint:
        return shares({", ".join(cell_labels(cell)): share for cell, share in config.joint.items()}, count=config.count)
    labels = [list(shares_of) for shares_of in config.target.values()]
    table = np.zeros([len(one) for one in labels])
    for cell, number in counts.items():
        table[tuple(one.index(label) for one, label in zip(labels, cell_labels(cell), strict=True))] = number
    try:
        joint = raked(table, [np.array(list(shares_of.values())) for shares_of in config.target.values()])
    except TargetError as error:
        found = ", ".join(f"{cell}: {number}" for cell, number in sorted(counts.items()))
        raise ModelError(f"{NAME}.target: {error}; got candidates in {found}; make more candidates") from None
    by_cell = {
        ", ".join(one[place] for one, place in zip(labels, index, strict=True)): float(joint[index])
        for index in np.ndindex(joint.shape)
    }
    return shares(by_cell, count=config.count)


def _greedy(
    config: MakeIdentities, paths: Sequence[Path], pool: _Pool, *, wanted: Mapping[str, int]
) -> tuple[list[Identity], Counter[str], dict[str, list[int]]]:
    """The identities in candidate order, how many each cell got, and the spare candidates of each cell."""
    first = {cell: number for cell, number in wanted.items() if number}
    room = {cell: number * (1 + config.spares) for cell, number in first.items()}
    chosen: list[Identity] = []
    taken: Counter[str] = Counter()
    spare: dict[str, list[int]] = {cell: [] for cell in room}
    choice: GreedyChoice | None = None
    for path, rows, cells in zip(paths, pool.rows, pool.cells, strict=True):
        if choice is not None and choice.full:
            break
        table = read_table(path, columns=(EMBEDDING,))
        width = table.embedding.shape[1]
        choice = choice or GreedyChoice(count=sum(room.values()), width=width, max_cosine=config.max_cosine, room=room)
        for place in choice.offer(table.embedding[rows], groups=cells):
            row, cell = int(rows[place]), cells[place]
            if taken[cell] < first[cell]:
                taken[cell] += 1
                chosen.append(_identity(table, row, cell=cell))
            else:
                spare[cell].append(int(table.numbers[row]))
    return chosen, taken, spare


def _identity(table: CandidateTable, row: int, *, cell: str) -> Identity:
    return Identity(candidate=int(table.numbers[row]), cell=cell, attributes=table.values(row))


def _numbered(run: Run, people: Sequence[Identity]) -> list[Identity | None]:
    """The identities by number. Where there are fewer than numbers, the free ones are spread evenly.

    So no unit of a later stage is without any; an empty tar is not written.

    Raises:
        ModelError: there are so few that one is.
    """
    count = run.section(MakeIdentities).count
    numbers = np.linspace(0, count - 1, len(people)).round().astype(int).tolist()
    for stage in run.chain:
        named = {part.name for part in fields(stage.unit)}
        if stage.name not in run.method.own_stages or not {"first", "last"} <= named:
            continue
        for unit in run.ledger.units(stage):
            block = unit.as_json()
            if not any(block["first"] <= number <= block["last"] for number in numbers):
                raise ModelError(
                    f"{NAME}.if_short: got less, with {len(people)} of {count} identities, so few that units of "
                    f"{stage.name} would have none; set {NAME}.count to {len(people)}"
                )
    by_number = dict(zip(numbers, people, strict=True))
    return [by_number.get(number) for number in range(count)]


def _places(chosen: Sequence[Identity]) -> list[int]:
    """The place of each identity within its cell."""
    seen: Counter[str] = Counter()
    places = []
    for one in chosen:
        places.append(seen[one.cell])
        seen[one.cell] += 1
    return places


def _refuse_short(
    config: MakeIdentities, *, candidates: int, wanted: Mapping[str, int], taken: Mapping[str, int]
) -> None:
    needed = candidates_needed(pool=candidates, wanted=wanted, taken=taken)
    if not needed or (config.if_short == "less" and any(taken.values())):
        return
    cells = "; ".join(
        f"{cell}: {taken.get(cell, 0)} of {wanted[cell]}"
        + (f", about {number} candidates" if number else ", no candidate at all")
        for cell, number in needed.items()
    )
    raise ModelError(
        f"{NAME}: got too few of {candidates} usable candidates in {len(needed)} cells ({cells}); raise "
        "candidates.count, change the target, or take if_short: less"
    )


def _stranger_cosine(paths: Sequence[Path], *, seed: int) -> float:
    """The cosine that pairs of candidates of the first table exceed with probability 0.001."""
    unit = unit_rows(read_table(paths[0], columns=(EMBEDDING,)).embedding)
    draw = np.random.default_rng(seed).integers(0, len(unit), (STRANGER_PAIRS, 2))
    draw = draw[draw[:, 0] != draw[:, 1]]
    if not len(draw):
        return 1.0
    return float(np.quantile((unit[draw[:, 0]] * unit[draw[:, 1]]).sum(axis=1), 1 - STRANGER_RATE))


def _figures(
    config: MakeIdentities, people: Sequence[Identity], *, wanted: Mapping[str, int], pool: _Pool, stranger: float
) -> dict[str, Any]:
    """Wished and realized numbers by cell and by label, with 95 % intervals of the shares."""
    by_cell = Counter(one.cell for one in people)
    labels: dict[str, Any] = {}
    for place, (name, shares_of) in enumerate(config.target.items()):
        realized = Counter(cell_labels(one.cell)[place] for one in people)
        wished = Counter[str]()
        for cell, number in wanted.items():
            wished[cell_labels(cell)[place]] += number
        labels[name] = {
            label: {
                "wished": round(wished[label] / sum(wanted.values()), 4),
                "realized": round(realized[label] / max(len(people), 1), 4),
                "interval": [round(bound, 4) for bound in wilson(realized[label], len(people))],
            }
            for label in shares_of
        }
    return {
        "identities": len(people),
        "usable_candidates": sum(len(cells) for cells in pool.cells),
        "stranger_cosine": round(stranger, 4),
        "cells": {cell: {"wished": number, "realized": by_cell[cell]} for cell, number in wanted.items()},
        "labels": labels,
        "spares": sum(len(one.spares) for one in people),
    }
