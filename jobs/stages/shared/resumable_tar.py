"""A tar that a stopped rank left unfinished: its whole batches are kept, and the next attempt continues behind them.

A tar may take many minutes of GPU time, and a preemptible partition may take the GPU away more often. The kept part
is a valid tar, so the usual reader checks it. Only a stop request keeps it: after `kill -9` the tar is rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.stages.shared.tars import publishing_tar
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter
from slurm.files import PartialFile, digest, publish_json, read_json, sha256_of

if TYPE_CHECKING:
    from jobs.frame.rank import Work
from jobs.frame.unit import Unit


@contextmanager
def resumable_tar(work: Work[Unit], name: str) -> Iterator[TarWriter]:
    """A tar to write, which already holds what an earlier attempt of this very unit had made when it was stopped.

    Leave the block by `Stopped` only between batches: what is in the tar then is kept.
    """
    kept = work.rank.folder.kept / name
    key = digest(work.rank.fingerprint(work.unit))

    def keep(tar: TarWriter, file: PartialFile) -> None:
        if tar.samples:
            tar.close()
            file.link(kept)
            publish_json(_certificate(kept), {"key": key, "sha256": file.output(name).sha256}, replace=True)
            work.rank.heartbeat.update(last_saved=f"unit {work.number}, {tar.samples} images")

    with publishing_tar(work.path(name), record=work.record, on_stop=keep) as tar:
        _copy(kept, tar, key=key)
        yield tar
    for path in (_certificate(kept), kept):
        path.unlink(missing_ok=True)


def _copy(kept: Path, tar: TarWriter, *, key: str) -> None:
    """Add what was kept, if it is whole and of the same unit, config and inputs."""
    stored = read_json(_certificate(kept))
    if not isinstance(stored, dict) or stored.get("key") != key:
        return
    if not kept.exists() or sha256_of(kept) != stored["sha256"]:
        return
    samples = ShardSet([kept])
    for index, sample in enumerate(samples.keys):
        tar.add(sample, jpg=samples.jpeg(index), record=samples.record(index))
    samples.close()


def _certificate(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.json")
