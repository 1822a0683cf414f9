"""Study-sets: what is a set worth? Nets of one recipe on real faces, on synthetic ones, on both, over several seeds.

What others tell in one accuracy is a difference: the gap to the net that was trained on real faces. It is told here per
seed, so with its spread. Parts of a set (fewer images, some values of m) and another augmentation are compared alike.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from cemiface.config import AugmentConfig
from jobs.benchmark_sets import benchmark_needs
from jobs.seeds import derive
from jobs.stage import Finish, Run, Stage, StageConfig, Unit
from jobs.study import Rows, Study, markdown_line, percent, publish_files, rows_of, seeds_said, spread, train_one, units
from jobs.train_recognition import MADE_HERE, Sets, faces_of, imported
from jobs.yaml_file import ConfigError
from slurm.markers import Marker

if TYPE_CHECKING:
    from jobs.rank import Rank
    from shards.shard_set import ShardSet
    from shards.subset import Subset

NAME = "study-sets"


class Contender(StageConfig):
    """What one net is trained on: sets, or a part of them."""

    sets: Sets = Field(min_length=1)  # "real", "synthetic", or names of imported sets
    images: int | None = Field(None, ge=1)  # so many of them, drawn from the run's seed; None: all
    m: tuple[float, ...] = ()  # generated faces wished at one of these alone; none given: at any
    augment: AugmentConfig | None = None  # None: as the study's


class StudySets(Study):
    compare: dict[str, Contender] = Field(min_length=2)  # by a name of one's own; gaps are told to the first


def plan(run: Run) -> list[Unit]:
    return units(run, name=NAME, groups=list(run.section(NAME).compare))


def kinds(run: Run) -> list[str]:
    return sorted({kind for contender in run.section(NAME).compare.values() for kind in contender.sets})


def needs(run: Run) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(MADE_HERE[kind] for kind in kinds(run) if kind in MADE_HERE), *benchmark_needs(run)]))


def run_rank(run: Run, rank: Rank) -> None:
    config: StudySets = run.section(NAME)
    for work in rank.remaining():
        contender = config.compare[work.unit["group"]]
        recipe = config.model_copy(update={"augment": contender.augment or config.augment})
        train_one(run, rank, work, faces=_faces(run, work.unit["group"], contender), recipe=recipe, figures={})
        gc.collect()  # the engine of the unit before holds itself in circles


def _faces(run: Run, name: str, contender: Contender) -> ShardSet | Subset:
    """The images of a contender.

    Raises:
        ConfigError: it asks for more images than there are, or for an m that none was wished at.
    """
    import numpy as np

    from shards.subset import Subset

    faces = faces_of(run, kinds=contender.sets)
    rows = np.arange(len(faces))
    if contender.m:
        wished = np.array([record.get("m", np.nan) if "origin" not in record else np.nan for record in faces.records()])
        absent = set(contender.m) - set(wished)
        if absent:
            there = ", ".join(f"{m:g}" for m in np.unique(wished[~np.isnan(wished)])) or "none"
            raise ConfigError(f"{NAME}.compare.{name}.m: got {min(absent):g}; allowed: those of the set, {there}")
        rows = np.flatnonzero(np.isin(wished, contender.m))
    if contender.images is not None:
        if contender.images > len(rows):
            raise ConfigError(f"{NAME}.compare.{name}.images: got {contender.images}; allowed: 1 to {len(rows)}")
        draw = np.random.default_rng(derive(run.seed, NAME))
        rows = np.sort(draw.permutation(rows)[: contender.images])
    return faces if len(rows) == len(faces) else Subset(faces, rows)


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """The table: accuracy of every contender, and what it lacks to the first."""
    rows = with_gaps(rows_of(run, markers, name=NAME, groups=list(run.section(NAME).compare)))
    return Finish(figures={"groups": rows}, outputs=publish_files(run, {"table.md": table(rows).encode()}, name=NAME))


def with_gaps(rows: Rows) -> Rows:
    """Each row with its `gap`: by how much the first row's average accuracy is above its own, seed by seed."""
    first = rows[0]["average"]["values"]
    return [
        {**row, "gap": spread([a - b for a, b in zip(first, row["average"]["values"], strict=True)])} for row in rows
    ]


def table(rows: Rows) -> str:
    """A Markdown table, percent, mean and standard deviation over seeds."""
    benchmarks = list(rows[0]["accuracy"])
    head = ["trained on", "images", "identities", *benchmarks, "average", f"gap to {rows[0]['group']}"]
    lines = [
        f"Verification accuracy in percent, {seeds_said(rows)}. The last checkpoint of every net. Gaps are in points,",
        "between nets of one seed: of the same first weights.",
        "",
        markdown_line(head),
        markdown_line(["---"] * len(head)),
    ]
    for number, row in enumerate(rows):
        cells = [row["group"], str(row["images"]), str(row["identities"])]
        cells += [percent(row["accuracy"][name]) for name in benchmarks]
        lines.append(markdown_line([*cells, percent(row["average"]), percent(row["gap"]) if number else ""]))
    return "\n".join(lines) + "\n"


STAGE = Stage(
    name=NAME,
    title="study: nets trained on real faces, on synthetic ones, on both, or on parts of them",
    config=StudySets,
    needs=needs,
    files=lambda run: imported(run, kinds=kinds(run)),
    plan=plan,
    run_rank=run_rank,
    finish=finish,
)
