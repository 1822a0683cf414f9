"""The sets of faces that nets are trained on and scored: of this run, of another run, or imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from jobs.frame.products import REAL, SHARD, SYNTHETIC
from jobs.frame.run import Run
from jobs.stages.shared.imported_sets import SET_NAME, SETS, registered, tars_of
from jobs.stages.shared.other_runs import OTHER_RUN, PREFIX, other_set
from shards.errors import DataError
from shards.tars.joined import JoinedSets
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.shard_set import ShardSet
from slurm.files import sha256_of

MADE_HERE = (REAL, SYNTHETIC)  # sets of this run

# "real", "synthetic", "run:" and the name of another run, or the name of an imported set
Sets = tuple[Annotated[str, StringConstraints(pattern=rf"^({OTHER_RUN.pattern}|{SET_NAME.pattern})$")], ...]


def tars(run: Run, *, kind: str) -> list[Path]:
    """The tars of the real training faces, of the synthetic ones, of another run's, or of an imported set."""
    if kind.startswith(PREFIX):
        return other_set(run, kind).tars
    if kind not in MADE_HERE:
        return tars_of(kind, sets=run.path(SETS))
    return run.ledger.outputs(maker_of(run, kind), prefix=f"{kind}-", suffix=".tar")


def maker_of(run: Run, kind: str) -> str:
    """The stage that makes a set of this run."""
    return SHARD if kind == REAL else run.method.generate.name


def makers_of(run: Run, kinds: Sequence[str]) -> list[str]:
    """The stages that make those of the sets that are of this run."""
    return [maker_of(run, kind) for kind in kinds if kind in MADE_HERE]


def faces_of(run: Run, *, kinds: Sequence[str]) -> ShardSet | JoinedSets:
    """The faces of these kinds as one set, with contiguous labels over all of them.

    Synthetic identities of different sets are apart, whatever their names. Sets of several sizes are scaled to the
    smallest.

    Raises:
        DataError: a real person has the name of a synthetic one: the two would be trained as one.
    """
    parts = {kind: set_of(run, kind=kind) for kind in kinds}
    people = {kind: {*part.classes} for kind, part in parts.items() if kind != REAL}
    sizes = {len(part.rgb(0)) for part in parts.values()}
    if sum(map(len, people.values())) > len(set[str]().union(*people.values())) or len(sizes) > 1:
        return JoinedSets(parts)
    faces = ShardSet([path for kind in kinds for path in tars(run, kind=kind)])
    if len(set(kinds)) > 1:
        apart = sum(len(part.classes) for part in parts.values())
        if apart != len(faces.classes):
            raise DataError(
                f"sets: got {apart - len(faces.classes)} identities of one name in {' and '.join(kinds)}; "
                "allowed: different names; rename the folders of the real faces"
            )
    return faces


def set_of(run: Run, *, kind: str) -> ShardSet:
    """The faces of one set."""
    return ShardSet(tars(run, kind=kind))


def imported(run: Run, *, kinds: Sequence[str]) -> dict[str, str]:
    """The sets that are not of this run, by hashes: of an imported set's manifest, of what another run recorded."""
    found = {}
    for kind in kinds:
        if kind.startswith(PREFIX):
            found[f"sets.{kind}"] = other_set(run, kind).outcome
        elif kind not in MADE_HERE:
            found[f"sets.{kind}"] = sha256_of(registered(kind, sets=run.path(SETS)) / MANIFEST)
    return found
