"""The data sets that the nets behind a run's set were trained on, and those that its audit compares the set with."""

from __future__ import annotations

import json
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
from jobs.stages.shared.other_runs import PREFIX, other_set
from jobs.stages.shared.sets import MADE_HERE
from jobs.stages.train_recognition.plan import TrainEmbedder
from shards.errors import DataError
from shards.privacy.lineage import (
    CheckedSet,
    DataSet,
    checked,
    content_hash,
    lineage_text,
    plain,
    read_lineage,
    unknown_origin,
)
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.manifest import Shard, read_manifest
from slurm.certified import read_certified
from slurm.files import Output, sha256_of

AUDIT_RECORD = "audit.json"  # of a published set: the public part of its verdict


def own_faces(run: Run) -> DataSet:
    """The run's own training faces; without counts and hash until they are sharded."""
    config, summary = run.section(ShardFaces), run.ledger.summary(SHARD)
    if summary is None:
        return DataSet(name=config.name or "unnamed set", license=config.license)
    tars = own_tars(run)
    digest = content_hash((tar.name, tar.sha256) for tar in tars)
    return DataSet(
        name=config.name or f"unnamed set {digest[:12]}",
        license=config.license,
        images=sum(tar.samples for tar in tars),
        identities=summary.figures["identities"][REAL],
        sha256=digest,
    )


def own_tars(run: Run) -> list[Shard]:
    """The run's tars of training faces, from the manifest that `shard` recorded."""
    manifest = read_manifest(run.stage_folder(SHARD).output(MANIFEST), data=run.ledger.read(SHARD, MANIFEST))
    return training_tars(manifest)


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


def lineage_of_embedder(run: Run) -> tuple[DataSet, ...]:
    """What E_id brings with it: the data of given weights, and imported sets that the run trains it on."""
    embedder, given = run.find(TrainEmbedder), run.config.embedder.weights
    if given:
        return lineage_of_weights(run.path(given), field="embedder.weights")
    kinds = embedder.sets if embedder is not None else ()
    others = [kind for kind in kinds if kind not in MADE_HERE]
    return tuple(one for kind in others for one in lineage_of_other(run, kind))


def checked_lineage(run: Run, *, counted: bool = True) -> tuple[CheckedSet, ...]:
    """Every data set of the method's lineage, and whether the audit compares the set with it.

    Args:
        counted: whether the faces are fingerprinted. If not, a set that is given by name is taken to be large enough.
    """
    summary = run.ledger.summary(FINGERPRINT)
    counts = summary.figures.get("also", []) if summary else []
    also = also_sets(run, run.section(FingerprintFaces).also, counts=counts, rehash=counted)
    lineage, own = run.method.lineage(run), own_faces(run)
    if not counted:
        lineage, own = tuple(map(_uncounted, lineage)), _uncounted(own)
    return checked(lineage, own=own, also=also)


def _uncounted(one: DataSet) -> DataSet:
    """The set as if it had no image, so that every given set is large enough; an unknown size stays unknown."""
    return one if one.images is None else replace(one, images=0)


def lineage_of_training(run: Run, *, sets: Sequence[str]) -> str:
    """The metadata of a recognition net that is trained on these sets of faces."""
    found: list[DataSet] = []
    for kind in sets:
        if kind == REAL:
            found.append(own_faces(run))
        elif kind == SYNTHETIC:
            found += run.method.lineage(run)
        else:
            found += lineage_of_other(run, kind)
    return lineage_text(found)


def lineage_of_other(run: Run, kind: str) -> tuple[DataSet, ...]:
    """What is behind a set that is not of this run: of another run's set, the lineage of that run."""
    if not kind.startswith(PREFIX):
        return imported_lineage(run, kind)
    other = other_set(run, kind).run
    return other.method.lineage(other)


def imported_lineage(run: Run, name: str) -> tuple[DataSet, ...]:
    """An imported set as a data set that a net is trained on, and the data sets behind it, as it lists them.

    Raises:
        DataError: there is no such set, or its list cannot be read.
    """
    folder = registered(name, sets=run.path(SETS))
    manifest = read_manifest(folder / MANIFEST)
    digest = sha256_of(folder / MANIFEST)
    # Not by the name that it was registered under, which is the user's: cards name the sets of a lineage.
    own = DataSet(name=f"imported set {digest[:12]}", images=manifest.totals.samples, sha256=digest)
    listed = next((file for file in manifest.files if file.name == AUDIT_RECORD), None)
    unknown = (own, unknown_origin(own.name))
    if listed is None:
        return unknown
    record = Output(name=listed.name, bytes=listed.bytes, sha256=listed.sha256)
    data = read_certified(folder / AUDIT_RECORD, record, remedy="import the set again")
    try:
        behind = json.loads(data).get("lineage")
        sets = [plain(CheckedSet.from_record(one).data) for one in behind] if behind is not None else []
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        raise DataError(f"{folder / AUDIT_RECORD}: its lineage is not a list of data sets; import it again") from None
    return (own, *sets) if sets else unknown


def unchecked(run: Run, sets: Sequence[CheckedSet]) -> list[str]:
    """The names of the data sets that the set was not compared with and that the config does not accept."""
    accepted = run.section(AuditFaces).accept_unchecked
    return [one.data.name for one in sets if one.held_against is None and one.data.name not in accepted]
