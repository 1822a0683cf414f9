"""The work of candidates: latents, faces, attributes and embeddings, a table per unit."""

from __future__ import annotations

import torch

from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.plan import CandidatesUnit, MakeCandidates
from jobs.methods.gandiffface.candidates.table import CandidateTable, table_bytes
from jobs.methods.gandiffface.measured_faces import FaceMaker, Measured, joined
from jobs.training.device import rank_device


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the table of each block."""
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
            numbers=torch.arange(work.unit.start, work.unit.stop).numpy(),
            w=torch.cat(latents).cpu().numpy(),
            embedding=measured.embedding,
            attributes=measured.attributes,
        )
        work.publish(work.unit.table, table_bytes(table, generator=faces.name))
        work.done(images=len(table.numbers))
