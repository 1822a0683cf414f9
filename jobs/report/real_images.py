"""The pictures of real faces by the names that the audit gives them."""

from __future__ import annotations

import numpy as np

from jobs.frame.products import BENCHMARK, HELD_OUT, KEPT_BACK, REAL, SHARD
from jobs.frame.run import Run
from shards.tars.shard_set import ShardSet


class RealImages:
    """Real faces by name: a key or an identity of the training faces, or `<kind>/<key>` (`jobs.frame.verdicts`)."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sets: dict[str, ShardSet | None] = {}

    def jpeg(self, name: str) -> bytes | None:
        """The encoded image; None where the run has none, as for fingerprints of another run."""
        found = self._found(name)
        return found[0].jpeg(found[1]) if found else None

    def rgb(self, name: str) -> np.ndarray | None:
        """(H, W, 3) uint8; None where the run has no such image."""
        found = self._found(name)
        return found[0].rgb(found[1]) if found else None

    def record(self, name: str) -> dict[str, object]:
        """The record of an image; empty where the run has no such image."""
        found = self._found(name)
        return found[0].record(found[1]) if found else {}

    def _found(self, name: str) -> tuple[ShardSet, int] | None:
        kind, _, key = name.partition("/")
        for group, wanted in ((REAL, name), (kind, key)):
            images = self._set(group)
            if images is not None and (wanted in images.classes or wanted in images.keys):
                return images, images.row_of(wanted)
        return None

    def _set(self, group: str) -> ShardSet | None:
        if group not in self._sets:
            ledger, stage, prefix = self._run.ledger, SHARD, f"{group}-"
            if group.startswith(f"{BENCHMARK}-"):
                stage, prefix = "convert-benchmarks", f"{group.removeprefix(f'{BENCHMARK}-')}.tar"
            known = group in (REAL, HELD_OUT, KEPT_BACK) or stage != SHARD
            tars = ledger.outputs(stage, prefix=prefix, suffix=".tar") if known and self._run.includes(stage) else []
            self._sets[group] = ShardSet(tars) if tars else None
        return self._sets[group]
