"""What a unit of settle changed, as a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from jobs.stages.settle.changes_file import Changes, changes_bytes, changes_name, read_changes
from shards.privacy.leaks import Leak, Reason
from slurm.files import publish_json

CHANGES = Changes(
    refilled=("000000-001",),
    leaks=(Leak(key="000001-000", reason=Reason.IDENTITY_TOO_SIMILAR, real="zoë/1.jpg", cosine=0.5),),
)


def test_changes_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / changes_name("synthetic-00000.tar")
    path.write_bytes(changes_bytes(CHANGES))
    assert path.name == "judged-synthetic-00000.json"
    assert read_changes(path.read_bytes()) == CHANGES


def test_the_bytes_are_those_that_older_versions_wrote(tmp_path: Path) -> None:
    """A unit that was finished by an older version is not settled again with other bytes."""
    older = {"refilled": ["000000-001"], "leaks": [asdict(leak) for leak in CHANGES.leaks]}
    publish_json(tmp_path / "older.json", older)
    assert (tmp_path / "older.json").read_bytes() == changes_bytes(CHANGES)
