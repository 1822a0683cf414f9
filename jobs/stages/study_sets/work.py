"""The work of study-sets: a net per compared set and seed, and the table of their gaps."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jobs.frame.errors import ConfigError
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Finish
from jobs.report.set_facts import facts_of_set
from jobs.stages.shared.measured_sets import measured
from jobs.stages.shared.other_runs import PREFIX, other_set
from jobs.stages.shared.sets import faces_of, set_of
from jobs.stages.shared.studies.nets import publish_files, rows_of, train_one
from jobs.stages.shared.studies.study import StudyUnit
from jobs.stages.shared.studies.tables import GroupRows, gap_text, markdown_line, percent, seeds_text
from jobs.stages.study_sets.plan import NAME, ComparedSet, StudySets, kinds, unasked
from shards.tars.records import asked_of, is_copy, is_synthetic
from shards.tars.subset import LabeledImages, Subset
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Train and verify this rank's nets."""
    config = run.section(StudySets)
    for work in rank.remaining(StudyUnit):
        compared = config.compare[work.unit.group]
        recipe = config.model_copy(update={"augment": compared.augment or config.augment})
        faces = _faces(run, work.unit.group, compared)
        figures = measured(faces, images=config.measured_images, seed=run.seed) if work.unit.seed == 0 else {}
        train_one(run, rank, work, faces=faces, recipe=recipe, figures=figures)
        gc.collect()  # the last unit's engine is in reference cycles


def _faces(run: Run, name: str, compared: ComparedSet) -> LabeledImages:
    """The images that a net is trained on.

    Raises:
        ConfigError: `images` is more than there are, or no image was asked for one of the values.
    """
    if compared.images_of_each is not None:
        return _shares(run, name, compared, each=compared.images_of_each)
    faces = faces_of(run, kinds=compared.sets)
    rows = _rows_asked(faces.records(), name, compared, images=len(faces))
    if compared.images is not None:
        if compared.images > len(rows):
            raise ConfigError(f"{NAME}.compare.{name}.images: got {compared.images}; allowed: 1 to {len(rows)}")
        draw = np.random.default_rng(derive(run.seed, NAME))
        rows = np.sort(draw.permutation(rows)[: compared.images])
    return faces if len(rows) == len(faces) else Subset(faces, rows)


def _rows_asked(records: Iterable[Mapping[str, Any]], name: str, compared: ComparedSet, *, images: int) -> np.ndarray:
    """The rows of images of which one of the wanted values was asked; all without such.

    Raises:
        ConfigError: no image was asked for one of the values.
    """
    rows = np.arange(images)
    if not compared.wanted:
        return rows
    known = list(records)
    for key, values in compared.wanted.items():
        asked = [_asked(record, key) for record in known]
        absent = [value for value in values if value not in asked]
        if absent:
            raise unasked(name, key, absent[0], there=[value for value in asked if value is not None])
        rows = rows[[asked[row] in values for row in rows]]
    return rows


def _shares(run: Run, name: str, compared: ComparedSet, *, each: int) -> LabeledImages:
    """Equally many images of each set, as whole identities, of the last one a part."""
    faces, chosen = faces_of(run, kinds=compared.sets), []
    first = 0
    for kind in compared.sets:
        part = set_of(run, kind=kind)
        labels = part.labels
        allowed = _rows_asked(part.records(), name, compared, images=len(part))
        if each > len(allowed):
            raise ConfigError(
                f"{NAME}.compare.{name}.images_of_each: got {each} of {kind}; allowed: 1 to {len(allowed)}"
            )
        order = np.random.default_rng(derive(run.seed, f"{NAME}, {kind}")).permutation(int(labels.max()) + 1)
        rows = [row for person in order for row in allowed[labels[allowed] == person].tolist()]
        chosen += [first + row for row in sorted(rows[:each])]
        first += len(labels)
    return Subset(faces, np.array(chosen))


def _asked(record: Mapping[str, Any], key: str) -> float | str | None:
    """What was asked for under this key; None for a real image or a copy."""
    return asked_of(record).get(key) if is_synthetic(record) and not is_copy(record) else None


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """The table: accuracy on every compared set, and the gap of each to the first."""
    config = run.section(StudySets)
    rows = rows_of(run, markers, name=NAME, groups=list(config.compare), study=config, to_best=False)
    rows = [{**row, "sets": list(config.compare[row["group"]].sets)} for row in rows]
    others = {kind: facts_of_set(other_set(run, kind).run) for kind in kinds(run) if kind.startswith(PREFIX)}
    return Finish(
        figures={"groups": rows, "sets": others},
        outputs=publish_files(run, {"table.md": table(rows).encode()}, name=NAME),
    )


def table(rows: GroupRows) -> str:
    """A Markdown table, percent, mean and standard deviation over seeds."""
    benchmarks = list(rows[0]["accuracy"])
    head = ["trained on", "images", "identities", *benchmarks, "average", f"gap to {rows[0]['group']}"]
    lines = [
        f"Verification accuracy in percent, {seeds_text(rows)}. The last checkpoint of every net. Gaps are in points,",
        "between nets of one seed, with 95 % intervals over people and seeds.",
        "",
        markdown_line(head),
        markdown_line(["---"] * len(head)),
    ]
    for row in rows:
        cells = [row["group"], str(row["images"]), str(row["identities"])]
        cells += [percent(row["accuracy"][name]) for name in benchmarks]
        lines.append(markdown_line([*cells, percent(row["average"]), gap_text(row["gap"])]))
    return "\n".join(lines) + "\n"
