"""The work of candidates: faces by the generator or given ones, their attributes and embeddings, a table per unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.gandiffface.candidates.given_pictures import GivenPictures, no_pictures
from jobs.methods.gandiffface.candidates.plan import CandidatesUnit, MakeCandidates
from jobs.methods.gandiffface.candidates.table import CandidateTable, table_bytes
from jobs.methods.gandiffface.given_parts import PARTS, given_parts
from jobs.methods.gandiffface.measured_faces import FaceMaker, FaceMeter, Measured, joined
from jobs.training.device import rank_device
from shards.embeddings.centers import directions as unit_rows
from slurm.files import digest
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the table of each block."""
    if run.section(MakeCandidates).faces is not None:
        _measure_given(run, rank)
        return
    config = run.section(MakeCandidates)
    faces = FaceMaker(run, device=rank_device(rank))
    for work in rank.remaining(CandidatesUnit):
        parts: list[Measured] = []
        latents: list[torch.Tensor] = []
        for first in range(work.unit.start, work.unit.stop, config.batch):
            numbers = range(first, min(first + config.batch, work.unit.stop))
            w = faces.latents(numbers)
            parts.append(faces.measured(w))
            latents.append(w)
            work.progress(len(numbers))
        measured = joined(parts)
        table = CandidateTable(
            numbers=np.arange(work.unit.start, work.unit.stop),
            w=torch.cat(latents).cpu().numpy(),
            embedding=measured.embedding,
            attributes=measured.attributes,
        )
        work.publish(work.unit.table, table_bytes(table, generator=faces.name))
        work.done(images=len(table.numbers))


def _measure_given(run: Run, rank: Rank) -> None:
    """Publish the table of each block of given people; one without a usable picture is in none.

    Raises:
        ModelError: nobody of a block has a usable picture.
    """
    pictures, meter = GivenPictures(run), FaceMeter(run, device=rank_device(rank))
    for work in rank.remaining(CandidatesUnit):
        numbers, rows, hashes = [], [], []
        counts: Counter[str] = Counter()
        for number, files in enumerate(pictures.of_unit(work.unit), start=work.unit.start):
            found = pictures.read(files)
            counts.update(found.unusable)
            work.progress(len(files))
            if found.images:
                numbers.append(number)
                hashes += found.hashes
                rows.append(_one_row(meter.measured_pictures(found.images)))
                counts["measured"] += len(found.images)
        if not rows:
            raise no_pictures(run, work.unit, counts)
        _publish(work, numbers, joined(rows), counts, sha256=digest(hashes))


def _one_row(measured: Measured) -> Measured:
    """One row for all pictures of a person: the center of the embeddings and mean attributes, of those with a face."""
    faces = measured.attributes.get("face", np.ones(len(measured.faces)))
    seen = faces > 0 if (faces > 0).any() else faces >= 0
    return Measured(
        pictures=measured.faces[:0],
        faces=measured.faces[:0],
        embedding=unit_rows(measured.embedding[seen]).mean(axis=0, keepdims=True),
        attributes={name: values[seen].mean(keepdims=True) for name, values in measured.attributes.items()},
    )


def _publish(
    work: Work[CandidatesUnit], numbers: list[int], measured: Measured, counts: Counter[str], *, sha256: str
) -> None:
    table = CandidateTable(
        numbers=np.array(numbers, np.int64),
        w=np.empty((len(numbers), 0), np.float32),
        embedding=measured.embedding,
        attributes=measured.attributes,
    )
    work.publish(work.unit.table, table_bytes(table, generator="given faces"))
    work.done(images=counts["measured"], counts=dict(sorted(counts.items())), figures={"sha256": sha256})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """The nets and faces that the run was given for them."""
    hashes = [marker.figures["sha256"] for marker in markers if "sha256" in marker.figures]
    return Finish(figures={PARTS: given_parts(run, faces=digest(hashes) if hashes else None)})
