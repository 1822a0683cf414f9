"""`cemiface export --fingerprints`: what the audit of another group needs of a run's real faces, without pictures."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from jobs.command.sets.new_folder import NewFolder
from jobs.frame.experiment import load_run_folder
from jobs.frame.products import FINGERPRINT, REAL
from jobs.frame.verdicts import reference_files
from jobs.stages.shared.gate.lineage import own_faces
from shards.errors import DataError
from shards.privacy.fingerprints import Fingerprints, embedder_and_width, read_fingerprints, vectors_bytes


def export_fingerprints(run_folder: Path, *, target: Path, console: Console) -> None:
    """Write the embeddings and pixel hashes of a run's training faces into the new folder `target`, a file per tar.

    Keys and names of people are replaced by numbers.

    Raises:
        ConfigError: the folder is not that of a run.
        DataError: its fingerprints are not finished, or the target exists.
    """
    run = load_run_folder(run_folder)
    run.ledger.recorded = True
    files = reference_files(run, kinds=(REAL,))
    if not files:
        raise DataError(f"{run_folder}: has no fingerprints yet; run `cemiface fingerprint` first")
    people: dict[str, str] = {}
    images = 0
    with NewFolder.at(target) as folder:
        for number, path in enumerate(files):
            content = run.ledger.read(FINGERPRINT, path.name)
            part = read_fingerprints(path, data=content)
            unnamed = Fingerprints(
                keys=[f"{images + row:09d}" for row in range(len(part.keys))],
                identities=[people.setdefault(name, f"{len(people):07d}") for name in part.identities],
                features=part.features,
                exact=part.exact,
                near=part.near,
            )
            images += len(part.keys)
            data = vectors_bytes(unnamed, embedder=embedder_and_width(path, data=content)[0], data_set=own_faces(run))
            with folder.file(f"fingerprints-{number:05d}.h5") as file:
                file.write(data)
    console.print(f"{target}: fingerprints of {images:,} images of {len(people):,} identities", highlight=False)
