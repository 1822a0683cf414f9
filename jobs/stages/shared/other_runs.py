"""Sets of other runs of the same `runs` folder, known by the name of the run: `run:NAME`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run_folder
from jobs.frame.products import SETTLE, SYNTHETIC
from jobs.frame.run import Run
from shards.errors import DataError

PREFIX = "run:"
OTHER_RUN = re.compile(rf"{PREFIX}[A-Za-z0-9][A-Za-z0-9._-]{{0,79}}")


@dataclass(frozen=True, kw_only=True)
class OtherSet:
    """The set of another run: as it was settled, else as it was generated; `stage` made it."""

    run: Run
    stage: str

    @property
    def tars(self) -> list[Path]:
        return self.run.ledger.outputs(self.stage, prefix=f"{SYNTHETIC}-", suffix=".tar")

    @property
    def images(self) -> int:
        summary = self.run.ledger.summary(self.stage)
        return summary.images_out if summary else 0

    @property
    def outcome(self) -> str:
        """A digest of its files."""
        return self.run.ledger.outcome(self.stage)


def other_set(run: Run, kind: str) -> OtherSet:
    """The set that "run:NAME" names.

    Raises:
        DataError: there is no such run, it is this one, or it has no finished set.
    """
    name = kind.removeprefix(PREFIX)
    folder = run.path(run.config.runs) / name
    if name == run.config.name:
        raise DataError(f"sets: got {kind}, which is this run; allowed: {SYNTHETIC}")
    if not (folder / "config.yaml").is_file():
        raise DataError(f"sets: got {kind}, no such run in {folder.parent}; give the name of another run")
    try:
        other = load_run_folder(folder)
    except ConfigError as error:
        raise DataError(f"sets: got {kind}, whose config cannot be read: {error}") from None
    if other.folder.root != folder:
        raise DataError(
            f"sets: got {kind}, whose config is of {other.folder.root}; allowed: a folder of its run's name"
        )
    other.ledger.recorded = True
    for stage in (SETTLE, other.method.generate.name):
        if other.ledger.summary(stage) is not None:
            return OtherSet(run=other, stage=stage)
    raise DataError(f"sets: got {kind}, which has no finished set; run its stage {other.method.generate.name} first")
