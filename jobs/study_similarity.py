"""The two studies the paper rests on: does a net learn most from faces at a middle similarity to their identity?

`study-groups`: real images, each identity's ranked by similarity to its center and cut into equal groups (section 3.1,
tables 1 and 9). `study-m`: generated images by the m they were wished at (table 11). One net per group and seed, all by
one recipe, on as many images of the same identities; accuracies against the similarity that was measured.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from jobs.benchmark_sets import benchmark_needs
from jobs.embed_faces import MERGED
from jobs.embedder import embedder_needs
from jobs.shard_faces import REAL
from jobs.stage import Finish, Run, Stage, Unit
from jobs.study import Study, publish_files, rows_of, train_one, units
from jobs.train_recognition import tars
from jobs.yaml_file import ConfigError
from slurm.markers import Marker

if TYPE_CHECKING:
    import numpy as np

    from jobs.rank import Rank
    from shards.subset import Subset

GROUPS, BY_M = "study-groups", "study-m"
WISHED = "m = "  # begins the names of groups of generated faces


class StudyGroups(Study):
    groups: int = Field(5, ge=2)
    min_images: int = Field(10, ge=2)  # identities with fewer are left out; every group gets images of all others

    def group_names(self, run: Run) -> list[str]:
        return [f"group {number + 1}" for number in range(self.groups)]


class StudyM(Study):
    def group_names(self, run: Run) -> list[str]:
        return [wished(m) for m in sorted(set(run.section("generate").similarity), reverse=True)]


def wished(m: float) -> str:
    """The name of the group of faces that were wished at m."""
    return f"{WISHED}{m:g}"


def plan(run: Run, *, name: str) -> list[Unit]:
    """One unit per group and seed.

    Raises:
        ConfigError: there is nothing to verify the nets on, or an identity has too few images for the groups.
    """
    config = run.section(name)
    planned = units(run, name=name, groups=config.group_names(run))
    if name == GROUPS and config.min_images < config.groups:
        raise ConfigError(
            f"{name}.min_images: got {config.min_images} for {config.groups} groups; allowed: at least as many"
        )
    if name == BY_M:
        _check_generated(run)
    return planned


def _check_generated(run: Run) -> None:
    """Refuse sets that differ in more than m."""
    config = run.section("generate")
    each, values = config.images_per_identity, len(set(config.similarity))
    if config.mixture or config.few_identities or config.target != "m":
        raise ConfigError(
            f"{BY_M}: needs sets that differ in m alone; allowed: generate.similarity as a list of m, "
            "without mixture, few_identities and target: cosine"
        )
    if each % values or values != len(config.similarity):
        raise ConfigError(
            f"generate.images_per_identity: got {each} for {len(config.similarity)} values of m; "
            "allowed: a multiple of them, each named once, so that the sets are equally large"
        )


def needs(run: Run, *, name: str) -> tuple[str, ...]:
    faces = ("shard", "embed") if name == GROUPS else ("generate",)
    return tuple(dict.fromkeys([*faces, *benchmark_needs(run), *embedder_needs(run)]))


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        faces, similarity = _group(run, rank.stage.name, group=work.unit["group"])
        figures = {"similarity": float(similarity.mean()), "similarity_std": float(similarity.std())}
        train_one(run, rank, work, faces=faces, recipe=run.section(rank.stage.name), figures=figures)
        gc.collect()  # the engine of the unit before holds itself in circles


def _group(run: Run, name: str, *, group: str) -> tuple[Subset, np.ndarray]:
    """The images of a group, and the similarity of each to its center, or as measured when it was generated."""
    import numpy as np

    from shards.embeddings import open_merged
    from shards.errors import DataError
    from shards.shard_set import ShardSet
    from shards.subset import Subset

    config = run.section(name)
    number = config.group_names(run).index(group)
    if name == BY_M:
        faces = ShardSet(run.outputs("generate", prefix="synthetic-", suffix=".tar"))
        records = list(faces.records())
        chosen = np.flatnonzero([wished(record["m"]) == group and "origin" not in record for record in records])
        return Subset(faces, chosen), np.array([records[row]["measured_cosine"] for row in chosen])
    faces = ShardSet(tars(run, kind=REAL))
    embedded = open_merged(run.stage_folder("embed").output(MERGED))
    assert embedded.keys == faces.keys
    groups = equal_groups(embedded.similarity, embedded.labels, groups=config.groups, min_images=config.min_images)
    if len(groups[number]) == 0:
        raise DataError(f"{name}.min_images: got {config.min_images}, and no identity has so many images; lower it")
    return Subset(faces, groups[number]), embedded.similarity[groups[number]]


def equal_groups(similarity: np.ndarray, labels: np.ndarray, *, groups: int, min_images: int) -> list[np.ndarray]:
    """Rows by falling similarity within each identity, cut into groups of exactly as many rows of every identity.

    What does not divide is left out, a row at the end of as many groups; identities of fewer images altogether.
    """
    import numpy as np

    found: list[list[np.ndarray]] = [[] for _ in range(groups)]
    order = np.lexsort((np.arange(len(labels)), -similarity, labels))
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(rows) < min_images:
            continue
        starts = np.arange(groups) * len(rows) // groups
        for group, start in enumerate(starts):
            found[group].append(rows[start : start + len(rows) // groups])
    return [np.sort(np.concatenate(part)) if part else np.empty(0, np.int64) for part in found]


def finish(run: Run, markers: Sequence[Marker], *, name: str) -> Finish:
    """The table and the plot, beside the paper's."""
    from jobs.study_curves import paper_curve, plot, table

    rows = rows_of(run, markers, name=name, groups=run.section(name).group_names(run))
    paper = paper_curve(name, rows)
    files = {"table.md": table(rows, paper=paper, name=name).encode(), "curve.svg": plot(rows, paper=paper, name=name)}
    return Finish(figures={"groups": rows}, outputs=publish_files(run, files, name=name))


STAGE = Stage(
    name=GROUPS,
    title="study: real faces in groups by similarity to their center, one net per group",
    config=StudyGroups,
    needs=lambda run: needs(run, name=GROUPS),
    plan=lambda run: plan(run, name=GROUPS),
    run_rank=run_rank,
    finish=lambda run, markers: finish(run, markers, name=GROUPS),
)

M_STAGE = Stage(
    name=BY_M,
    title="study: generated faces by the wished m, one net per m",
    config=StudyM,
    needs=lambda run: needs(run, name=BY_M),
    plan=lambda run: plan(run, name=BY_M),
    run_rank=run_rank,
    finish=lambda run, markers: finish(run, markers, name=BY_M),
)
