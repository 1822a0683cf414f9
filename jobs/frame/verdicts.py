"""Read the results of the audit: the real faces it compared with, and its verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from jobs.frame.ledger import again
from jobs.frame.products import AUDIT, FINGERPRINT, REAL, VERDICT
from jobs.frame.run import Run
from shards.privacy.fingerprints import Fingerprints, Vectors, read_fingerprints, read_vectors
from shards.privacy.verdict import Verdict
from slurm.certified import read_certified
from slurm.errors import RunError
from slurm.files import read_json


def reference_files(run: Run, *, kind: str = REAL) -> list[Path]:
    """The fingerprint files of one kind of real faces, one per tar."""
    return run.ledger.outputs(FINGERPRINT, prefix=f"{kind}-", suffix=".h5")


def all_references(run: Run) -> Iterator[Fingerprints]:
    """The fingerprints of every real training face, one tar at a time, each file as it was recorded."""
    folder = run.stage_folder(FINGERPRINT)
    for record in run.ledger.records(FINGERPRINT, prefix=f"{REAL}-", suffix=".h5"):
        path = folder.output(record.name)
        yield read_fingerprints(path, data=read_certified(path, record, remedy=again(FINGERPRINT)))


def recorded_vectors(run: Run, name: str) -> Vectors:
    """Names and embeddings of one file of the stage fingerprint, as it was recorded."""
    return read_vectors(run.stage_folder(FINGERPRINT).output(name), data=run.ledger.read(FINGERPRINT, name))


def verdict_of(run: Run, *, stage: str = AUDIT) -> Verdict:
    """The verdict of the audit, or of a later stage that changed the set.

    Raises:
        RunError: the stage has not written one, or it is not as the stage wrote it.
    """
    return Verdict.from_record(json.loads(run.ledger.read(stage, VERDICT)))


def shown_verdict(run: Run) -> Verdict:
    """The audit's verdict for pages that people read, unchecked: nothing is let through by it.

    Raises:
        RunError: the audit has not written one.
    """
    value = read_json(run.stage_folder(AUDIT).output(VERDICT))
    if not isinstance(value, dict):
        raise RunError(f"{AUDIT}: has written no verdict; {again(AUDIT)}")
    return Verdict.from_record(value)
