"""The table of identities: which candidate each one is, its cell, its attributes and its spares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cemiface.errors import ModelError
from jobs.frame.run import Run
from jobs.methods.gandiffface.identities.plan import NAME, TABLE
from slurm.files import read_json


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One identity: its candidate, its cell (labels joined by a comma), its attributes, and spare candidates."""

    candidate: int
    cell: str
    attributes: dict[str, float]
    spares: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class IdentityTable:
    """All identities by number, and the cosine that two different candidates reach with probability 0.001.

    Where there are fewer than the config asks for, the numbers that are left free are None.
    """

    identities: Sequence[Identity | None]
    stranger_cosine: float

    def as_json(self) -> bytes:
        """The content of the file."""
        people = [asdict(identity) if identity else None for identity in self.identities]
        return json.dumps({"stranger_cosine": self.stranger_cosine, "identities": people}).encode()


def read_identities(run: Run) -> IdentityTable:
    """Read the table of the finished stage.

    Raises:
        ModelError: it is missing or damaged.
    """
    path: Path = run.stage_folder(NAME).output(TABLE)
    value: Any = read_json(path)
    try:
        people = [one and Identity(**{**one, "spares": tuple(one["spares"])}) for one in value["identities"]]
        return IdentityTable(identities=people, stranger_cosine=float(value["stranger_cosine"]))
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{path}: missing or damaged; delete {path.parent} and run `{NAME}` again") from None
