"""Read the results of the audit: the real faces it compared with, and its verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from jobs.frame.ledger import again
from jobs.frame.products import ALSO, AUDIT, BENCHMARK, FINGERPRINT, HELD_OUT, INQUIRY, KEPT_BACK, REAL, VERDICT
from jobs.frame.run import Run
from shards.privacy.fingerprints import Fingerprints, Vectors, read_fingerprints, read_vectors
from shards.privacy.verdict import Verdict
from slurm.errors import RunError
from slurm.files import read_json

# All kinds of real faces that a run knows. People of the first three have names of their own within the run; those of
# the others may be among them under another name.
OWN_KINDS = (REAL, HELD_OUT, KEPT_BACK)
KINDS = (*OWN_KINDS, BENCHMARK, INQUIRY, ALSO)


def reference_files(run: Run, *, kinds: Sequence[str] = KINDS) -> list[Path]:
    """The fingerprint files of these kinds of real faces."""
    return [path for kind in kinds for path in run.ledger.outputs(FINGERPRINT, prefix=f"{kind}-", suffix=".h5")]


def all_references(run: Run, *, kinds: Sequence[str] = KINDS) -> Iterator[Fingerprints]:
    """The fingerprints of every real face of these kinds, one file at a time, each as it was recorded.

    Keys of faces that are no training faces begin with the name of their file, as `held-out/000000012`.
    """
    for path in reference_files(run, kinds=kinds):
        data = run.ledger.read(FINGERPRINT, path.name)
        yield _named(read_fingerprints(path, data=data), path)


def recorded_vectors(run: Run, name: str) -> Vectors:
    """Names and embeddings of one file of the stage fingerprint, as it was recorded."""
    return read_vectors(run.stage_folder(FINGERPRINT).output(name), data=run.ledger.read(FINGERPRINT, name))


def _named(part: Fingerprints, path: Path) -> Fingerprints:
    """The fingerprints under names that are different over all files."""
    kind = next(kind for kind in KINDS if path.name.startswith(f"{kind}-"))
    if kind == REAL:
        return part
    prefix = kind if kind in OWN_KINDS else path.stem
    identities = part.identities if kind in OWN_KINDS else [f"{prefix}/{name}" for name in part.identities]
    return replace(part, keys=[f"{prefix}/{key}" for key in part.keys], identities=identities)


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
