"""Puts real pictures into a generated set, as a generator that memorizes would have made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jobs.frame.run import Run
from jobs.frame.summary import finish_if_last
from jobs.stages.shared.tars import publishing_tar
from shards.tars.index import index_path
from shards.tars.reader import read_tar
from slurm.files import Output
from slurm.markers import read_marker, write_marker


def plant(run: Run, jpegs: Mapping[str, bytes]) -> None:
    """Replace the generated images of these keys; markers and summary name the new tars."""
    stage = run.method.generate
    folder, left = run.stage_folder(stage.name), set(jpegs)
    for number, unit in enumerate(run.ledger.units(stage)):
        path = folder.output(unit.tar)
        samples = list(read_tar(path))
        path.unlink()
        index_path(path).unlink()
        outputs: list[Output] = []
        with publishing_tar(path, record=outputs.append) as tar:
            for sample in samples:
                tar.add(sample.key, jpg=jpegs.get(sample.key, sample.jpg), record=sample.record)
                left.discard(sample.key)
        marker = read_marker(folder, number)
        assert marker is not None
        write_marker(folder, replace(marker, outputs=tuple(outputs)))
    assert not left
    assert finish_if_last(run, stage)
