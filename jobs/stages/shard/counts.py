"""How many real faces there are, as far as it is known: from the plan, and from the tars once they are made."""

from __future__ import annotations

import json
from collections.abc import Mapping

from jobs.frame.products import REAL
from jobs.frame.run import Run
from jobs.stages.shard.plan import SOURCE, STAGE
from slurm.files import read_json
from slurm.markers import marked_units, read_marker


def face_counts(run: Run, *, planned: bool = False) -> dict[str, int]:
    """Images of each tar: those in it if it is made, else those that were planned for it, which may be more.

    With `planned` always the latter.
    """
    folder, counts = run.stage_folder(STAGE.name), {}
    marked = set() if planned else set(marked_units(folder))
    for number, unit in enumerate(run.ledger.units(STAGE)):
        marker = read_marker(folder, number) if number in marked else None
        of_this = marker is not None and marker.fingerprint.get("unit") == unit.as_json()
        counts[unit.tar] = marker.images if marker is not None and of_this else unit.images
    return counts


def known_identities(run: Run) -> int | None:
    """Identities of the training faces as they were listed; None if that is not recorded."""
    planned = run.ledger.plan(STAGE.name).files.get(SOURCE)
    figures = json.loads(planned) if planned else read_json(run.stage_folder(STAGE.name).output(SOURCE))
    try:
        return int(figures["identities"][REAL])
    except (KeyError, TypeError, ValueError):
        return None


def images_of_kind(counts: Mapping[str, int], kind: str) -> int:
    """The images in the tars of one kind of real faces, of those by tar."""
    return sum(images for tar, images in counts.items() if tar.startswith(f"{kind}-"))
