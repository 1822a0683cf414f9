"""Files of the run as the stages recorded them: what the privacy gate reads is checked as it is read.

The gate scans tars and leaves their indexes aside: an index may list fewer images than its tar has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jobs.frame.ledger import again
from jobs.frame.run import Run
from shards.tars.reader import OpenTar, Sample
from shards.tars.shard_set import ShardSet
from slurm.certified import read_certified
from slurm.errors import RunError
from slurm.files import Output
from slurm.markers import Marker


def certified_tar(run: Run, stage: str, name: str) -> OpenTar:
    """A tar of a finished stage.

    Raises:
        RunError: it is missing, not a regular file, or not the one that the stage recorded.
    """
    return OpenTar(run.stage_folder(stage).output(name), descriptor=run.ledger.open(stage, name))


def certified_set(run: Run, stage: str, name: str) -> ShardSet:
    """The images of one tar of a finished stage; raises as `certified_tar`."""
    return ShardSet([certified_tar(run, stage, name)])


def certified_samples(run: Run, stage: str, name: str) -> Iterator[Sample]:
    """The samples of one tar of synthetic faces of a finished stage, one in memory at a time.

    Raises:
        RunError: as `certified_tar`, or the tar has the mark of private tars.
    """
    with certified_tar(run, stage, name) as tar:
        yield from tar.samples()
        require_unmarked(tar, stage=stage)


def require_unmarked(tar: OpenTar, *, stage: str) -> None:
    """Refuse a tar, all headers of which were read, if they have the mark of private tars.

    Raises:
        RunError: they have.
    """
    if tar.marked_private:
        name = f"{stage}/{tar.path.name}"
        raise RunError(f"{name}: its headers have the mark of private tars of real faces; remove it and {again(stage)}")


class MarkedFiles:
    """The outputs of a stage's units while the stage has no summary yet, as the units' markers record them."""

    def __init__(self, run: Run, stage: str, markers: Iterable[Marker]) -> None:
        self._stage, self._folder = stage, run.stage_folder(stage)
        self._records = {output.name: output for marker in markers for output in marker.outputs}

    @property
    def names(self) -> list[str]:
        """Of all files, sorted."""
        return sorted(self._records)

    def record(self, name: str) -> Output:
        """Size and sha256 of a file."""
        return self._records[name]

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            RunError: it is missing, not a regular file, or not the one that its marker records.
        """
        return read_certified(self._folder.output(name), self._records[name], remedy=again(self._stage))
