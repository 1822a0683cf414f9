"""The data sets behind a GANDiffFace set: those that its generator, its base and E_id were trained on."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import MakeCandidates
from jobs.stages.shared.gate.lineage import lineage_of_embedder, lineage_of_weights, own_faces
from shards.privacy.lineage import DataSet


def lineage(run: Run) -> tuple[DataSet, ...]:
    """The run's own faces, and what given nets bring with them."""
    found = [own_faces(run), *lineage_of_embedder(run)]
    candidates = run.find(MakeCandidates)
    if candidates is not None and candidates.generator:
        found += lineage_of_weights(run.path(candidates.generator), field=f"{CANDIDATES}.generator")
    return tuple(dict.fromkeys(found))
