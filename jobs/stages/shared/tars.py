"""How every stage writes its tars: whole or not at all, with the index beside them that saves readers the scan.

Synthetic pictures get their mark here, whichever method made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs import VERSION
from jobs.frame.method import GeneratedImage
from jobs.frame.run import Run
from shards.images.headers import JPEG_MAGIC
from shards.images.source_mark import SourceMark, mark_of, marked
from shards.tars.index import index_path
from shards.tars.writer import TarWriter
from slurm.files import Output, PartialFile, publish, publishing
from slurm.ranks.stop import Stopped


@contextmanager
def publishing_tar(
    path: Path,
    *,
    record: Callable[[Output], None],
    replace: bool = False,
    private: bool = False,
    on_stop: Callable[[TarWriter, PartialFile], None] | None = None,
) -> Iterator[TarWriter]:
    """A tar to write; when the block ends well it is closed and published, and so is its index.

    Both are passed to `record` with their names. A rank that is asked to stop leaves the block by `Stopped`: then there
    is no tar, but `on_stop` may keep what was written. `private` marks every member as a real face's.
    """
    with publishing(path, replace=replace) as file:
        tar = TarWriter(file, private=private)
        try:
            yield tar
        except Stopped:
            if on_stop:
                on_stop(tar, file)
            raise
        tar.close()
    record(file.output(path.name))
    record(publish(index_path(path), tar.index(), replace=replace))


def add_generated(tar: TarWriter, image: GeneratedImage, *, run: Run) -> None:
    """Add a picture of the set, marked as synthetic."""
    key = image.request.key
    tar.add(key, jpg=marked_as_synthetic(image.jpeg, key=key, run=run), record=image.record)


def marked_as_synthetic(jpeg: bytes, *, key: str, run: Run) -> bytes:
    """A picture of the set with the mark that says so. One that has a mark stays as it is, and so does no JPEG."""
    if not jpeg.startswith(JPEG_MAGIC) or mark_of(jpeg) is not None:
        return jpeg
    return marked(jpeg, SourceMark(version=VERSION, seed=run.seed, key=key))
