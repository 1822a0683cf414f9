"""The sets of faces that nets are trained on and scored: of this run, or imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from jobs.frame.products import REAL, SHARD, SYNTHETIC
from jobs.frame.run import Run
from jobs.stages.shared.imported_sets import SET_NAME, SETS, registered, tars_of
from shards.errors import DataError
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.shard_set import ShardSet
from slurm.files import sha256_of

MADE_HERE = (REAL, SYNTHETIC)  # sets of this run

# "real", "synthetic", or the name of an imported set
Sets = tuple[Annotated[str, StringConstraints(pattern=rf"^{SET_NAME.pattern}$")], ...]


def tars(run: Run, *, kind: str) -> list[Path]:
    """The tars of the real training faces, of the synthetic ones, or of an imported set."""
    if kind not in MADE_HERE:
        return tars_of(kind, sets=run.path(SETS))
    return run.ledger.outputs(maker_of(run, kind), prefix=f"{kind}-", suffix=".tar")


def maker_of(run: Run, kind: str) -> str:
    """The stage that makes a set of this run."""
    return SHARD if kind == REAL else run.method.generate.name


def makers_of(run: Run, kinds: Sequence[str]) -> list[str]:
    """The stages that make those of the sets that are of this run."""
    return [maker_of(run, kind) for kind in kinds if kind in MADE_HERE]


def faces_of(run: Run, *, kinds: Sequence[str]) -> ShardSet:
    """The faces of these kinds as one set, with contiguous labels over all of them.

    Raises:
        DataError: a real person has the name of a synthetic one: the two would be trained as one.
    """
    faces = ShardSet([path for kind in kinds for path in tars(run, kind=kind)])
    if len(set(kinds)) > 1:
        apart = sum(len(ShardSet(tars(run, kind=kind)).classes) for kind in set(kinds))
        if apart != len(faces.classes):
            raise DataError(
                f"sets: got {apart - len(faces.classes)} identities of one name in {' and '.join(kinds)}; "
                "allowed: different names; rename the folders of the real faces"
            )
    return faces


def imported(run: Run, *, kinds: Sequence[str]) -> dict[str, str]:
    """The imported ones among sets, by the hashes of their manifests, which hold those of all files."""
    others = [kind for kind in kinds if kind not in MADE_HERE]
    return {f"sets.{kind}": sha256_of(registered(kind, sets=run.path(SETS)) / MANIFEST) for kind in others}
