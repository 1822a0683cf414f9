"""Read the results of the audit: the real faces it compared with, and its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobs.frame.products import AUDIT, FINGERPRINT, REAL, VERDICT
from jobs.frame.run import Run
from shards.privacy.fingerprints import Fingerprints, read_fingerprints
from shards.privacy.verdict import Verdict
from slurm.errors import RunError
from slurm.files import read_json


def reference_files(run: Run, *, kind: str = REAL) -> list[Path]:
    """The fingerprint files of one kind of real faces, one per tar."""
    return run.ledger.outputs(FINGERPRINT, prefix=f"{kind}-", suffix=".h5")


def all_references(run: Run) -> Iterator[Fingerprints]:
    """The fingerprints of every real training face, one tar at a time."""
    return (read_fingerprints(path) for path in reference_files(run))


def verdict_of(run: Run, *, stage: str = AUDIT) -> Verdict:
    """The verdict of the audit, or of a later stage that changed the set.

    Raises:
        RunError: the stage has not written one.
    """
    value = read_json(run.stage_folder(stage).output(VERDICT))
    if not isinstance(value, dict):
        raise RunError(f"{stage}: has written no verdict; run `cemiface {stage}` again")
    return Verdict.from_record(value)
