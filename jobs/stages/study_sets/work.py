"""The work of study-sets: a net per compared set and seed, and the table of their gaps."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.frame.errors import ConfigError
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.stages.shared.sets import faces_of
from jobs.stages.shared.study import StudyUnit
from jobs.stages.shared.study_nets import publish_files, rows_of, spread, train_one
from jobs.stages.shared.study_tables import GroupRows, markdown_line, percent, seeds_text
from jobs.stages.study_sets.plan import NAME, ComparedSet, StudySets
from shards.tars.records import Groups, asked_of, is_copy, is_synthetic
from shards.tars.shard_set import ShardSet
from shards.tars.subset import Subset
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Train and verify this rank's nets."""
    config = run.section(StudySets)
    for work in rank.remaining(StudyUnit):
        compared = config.compare[work.unit.group]
        recipe = config.model_copy(update={"augment": compared.augment or config.augment})
        train_one(run, rank, work, faces=_faces(run, work.unit.group, compared), recipe=recipe, figures={})
        gc.collect()  # the last unit's engine is in reference cycles


def _faces(run: Run, name: str, compared: ComparedSet) -> ShardSet | Subset:
    """The images that a net is trained on.

    Raises:
        ConfigError: `images` is more than there are, or no image was asked for one of the values.
    """
    faces = faces_of(run, kinds=compared.sets)
    rows = np.arange(len(faces))
    for key, values in compared.wanted.items():
        asked = [_asked(record, key) for record in faces.records()]
        absent = [value for value in values if value not in asked]
        if absent:
            there = ", ".join(Groups({key: value} for value in asked if value is not None).labels.get(key, ["none"]))
            got = f"{NAME}.compare.{name}.asked.{key}: got {absent[0]}"
            raise ConfigError(f"{got}; allowed: those of the set, {there}")
        rows = rows[[asked[row] in values for row in rows]]
    if compared.images is not None:
        if compared.images > len(rows):
            raise ConfigError(f"{NAME}.compare.{name}.images: got {compared.images}; allowed: 1 to {len(rows)}")
        draw = np.random.default_rng(derive(run.seed, NAME))
        rows = np.sort(draw.permutation(rows)[: compared.images])
    return faces if len(rows) == len(faces) else Subset(faces, rows)


def _asked(record: Mapping[str, Any], key: str) -> float | str | None:
    """What was asked for under this key; None for a real image or a copy."""
    return asked_of(record).get(key) if is_synthetic(record) and not is_copy(record) else None


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """The table: accuracy on every compared set, and the gap of each to the first."""
    rows = with_gaps(rows_of(run, markers, name=NAME, groups=list(run.section(StudySets).compare)))
    return Finish(figures={"groups": rows}, outputs=publish_files(run, {"table.md": table(rows).encode()}, name=NAME))


def with_gaps(rows: GroupRows) -> GroupRows:
    """Each row with its `gap`: the first row's average accuracy less its own, seed by seed."""
    first = rows[0]["average"]["values"]
    return [
        {**row, "gap": spread([a - b for a, b in zip(first, row["average"]["values"], strict=True)])} for row in rows
    ]


def table(rows: GroupRows) -> str:
    """A Markdown table, percent, mean and standard deviation over seeds."""
    benchmarks = list(rows[0]["accuracy"])
    head = ["trained on", "images", "identities", *benchmarks, "average", f"gap to {rows[0]['group']}"]
    lines = [
        f"Verification accuracy in percent, {seeds_text(rows)}. The last checkpoint of every net. Gaps are in points,",
        "between nets of one seed, which have the same first weights.",
        "",
        markdown_line(head),
        markdown_line(["---"] * len(head)),
    ]
    for number, row in enumerate(rows):
        cells = [row["group"], str(row["images"]), str(row["identities"])]
        cells += [percent(row["accuracy"][name]) for name in benchmarks]
        lines.append(markdown_line([*cells, percent(row["average"]), percent(row["gap"]) if number else ""]))
    return "\n".join(lines) + "\n"
