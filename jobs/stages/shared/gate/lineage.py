"""The data sets that the nets behind a run's set were trained on, and those that its audit compares the set with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from jobs.frame.products import FINGERPRINT, REAL, SHARD, SYNTHETIC
from jobs.frame.run import Run
from jobs.stages.audit.plan import AuditFaces
from jobs.stages.fingerprint.also import also_sets, training_tars
from jobs.stages.fingerprint.plan import FingerprintFaces
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.imported_sets import SETS, registered
from shards.errors import DataError
from shards.privacy.lineage import CheckedSet, DataSet, checked, content_hash, lineage_text, read_lineage
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.manifest import read_manifest
from slurm.files import sha256_of


def own_faces(run: Run) -> DataSet:
    """The run's own training faces; without counts and hash until they are sharded."""
    config, summary = run.section(ShardFaces), run.ledger.summary(SHARD)
    if summary is None:
        return DataSet(name=config.name or "unnamed set", license=config.license)
    tars = training_tars(run.stage_folder(SHARD).output(MANIFEST))
    digest = content_hash((tar.name, tar.sha256) for tar in tars)
    return DataSet(
        name=config.name or f"unnamed set {digest[:12]}",
        license=config.license,
        images=sum(tar.samples for tar in tars),
        identities=summary.figures["identities"][REAL],
        sha256=digest,
    )


def lineage_of_weights(path: Path, *, field: str) -> tuple[DataSet, ...]:
    """The data sets that a given net was trained on, from the metadata of its file; of unknown origin without them.

    Args:
        field: of the config, which names the file.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return read_lineage({}, net=field)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise DataError(f"{field}: got {path}, not a whole safetensors file ({error}); fetch it again") from None
    return read_lineage(metadata, net=field)


def checked_lineage(run: Run, *, counted: bool = True) -> tuple[CheckedSet, ...]:
    """Every data set of the method's lineage, and whether the audit compares the set with it.

    Args:
        counted: whether the faces are fingerprinted. If not, a set that is given by name is taken to be large enough.
    """
    summary = run.ledger.summary(FINGERPRINT)
    counts = summary.figures.get("also", []) if summary else []
    also = also_sets(run, run.section(FingerprintFaces).also, counts=counts)
    lineage = [one if counted else replace(one, images=None) for one in run.method.lineage(run)]
    own = own_faces(run)
    return checked(lineage, own=own if counted else replace(own, images=None), also=also)


def lineage_of_training(run: Run, *, sets: Sequence[str]) -> str:
    """The metadata of a recognition net that is trained on these sets of faces."""
    found: list[DataSet] = []
    for kind in sets:
        if kind == REAL:
            found.append(own_faces(run))
        elif kind == SYNTHETIC:
            found += run.method.lineage(run)
        else:
            found.append(imported_set(run, kind))
    return lineage_text(found)


def imported_set(run: Run, name: str) -> DataSet:
    """An imported set as a data set that a net is trained on."""
    manifest = registered(name, sets=run.path(SETS)) / MANIFEST
    images = read_manifest(manifest).totals.samples
    return DataSet(name=f"imported set {name}", images=images, sha256=sha256_of(manifest))


def unchecked(run: Run, sets: Sequence[CheckedSet]) -> list[str]:
    """The names of the data sets that the set was not compared with and that the config does not accept."""
    accepted = run.section(AuditFaces).accept_unchecked
    return [one.data.name for one in sets if one.held_against is None and one.data.name not in accepted]
