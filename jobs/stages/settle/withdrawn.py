"""Synthetic people that were withdrawn after a set was made: `withdrawn.json` in the run folder, written and read here.

The file has no word of who asked. Each round names the version that was published before it, so that the next one can
name its predecessor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.frame.products import PUBLISH
from jobs.frame.run import Run
from shards.tars.records import IDENTITY
from slurm.errors import RunError
from slurm.files import publish_json, sha256_of

FORMAT = "cemiface-withdrawn-1"

NAME = "withdrawn.json"


@dataclass(frozen=True, kw_only=True)
class Round:
    """People that were withdrawn at once.

    Attributes:
        people: names of synthetic identities.
        manifest: sha256 of the manifest that was published before; None if nothing was.
    """

    people: tuple[str, ...]
    manifest: str | None


def path_of(run: Run) -> Path:
    """The run's file; it is there if anybody was withdrawn."""
    return run.folder.root / NAME


def withdrawn_files(run: Run) -> dict[str, str]:
    """The file and its hash, for fingerprints; nothing if nobody was withdrawn."""
    path = path_of(run)
    return {NAME: sha256_of(path)} if path.exists() else {}


def rounds_of(run: Run) -> tuple[Round, ...]:
    """All rounds, oldest first.

    Raises:
        RunError: the file is not one of this suite's.
    """
    path = path_of(run)
    if not path.exists():
        return ()
    try:
        value = json.loads(path.read_bytes())
        rounds = tuple(Round(people=tuple(one["people"]), manifest=one["manifest"]) for one in value["rounds"])
        fine = value["format"] == FORMAT and all(IDENTITY.fullmatch(name) for one in rounds for name in one.people)
    except (ValueError, TypeError, KeyError, RecursionError):
        fine = False
    if not fine:
        raise RunError(f"{path}: is no list of withdrawn people; restore it, or remove it to publish all people again")
    return rounds


def withdrawn_people(run: Run) -> frozenset[str]:
    """The names of all synthetic people that were withdrawn."""
    return frozenset(name for one in rounds_of(run) for name in one.people)


def withdraw(run: Run, people: Iterable[str]) -> list[str]:
    """Add a round of those people who are not withdrawn yet; returns their names."""
    rounds, new = rounds_of(run), sorted(set(people) - withdrawn_people(run))
    if new:
        rounds = (*rounds, Round(people=tuple(new), manifest=_published(run)))
        publish_json(path_of(run), {"format": FORMAT, "rounds": [asdict(one) for one in rounds]}, replace=True)
    return new


def version_of(version: str, rounds: Iterable[Round]) -> str:
    """The version of a set: one major version more for each published set that people were withdrawn from."""
    major, minor, patch = map(int, version.split("."))
    return f"{major + len({one.manifest for one in rounds if one.manifest})}.{minor}.{patch}"


def _published(run: Run) -> str | None:
    """The sha256 of the manifest that the run has published, whether it is up to date or not."""
    summary = run.ledger.summary(PUBLISH)
    found = [one.sha256 for one in (summary.outputs if summary else ()) if one.name.endswith("/manifest.json")]
    return found[0] if found else None
