"""The data sets behind a CemiFace set: those that its nets were trained on, and that its inquiry faces come from."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.cemiface.identities.plan import MakeIdentities
from jobs.methods.cemiface.train_diffusion.plan import NAME as TRAIN_DIFFUSION
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion
from jobs.stages.shared.gate.lineage import lineage_of_embedder, lineage_of_weights, own_faces
from shards.privacy.lineage import DataSet, unknown_origin


def lineage_of_nets(run: Run) -> tuple[DataSet, ...]:
    """The run's own faces, and what given weights and imported sets that E_id is trained on bring with them."""
    training = run.find(TrainDiffusion)
    found = [own_faces(run), *lineage_of_embedder(run)]
    if training is not None and training.initial_weights:
        field = f"{TRAIN_DIFFUSION}.initial_weights"
        found += lineage_of_weights(run.path(training.initial_weights), field=field)
    return tuple(dict.fromkeys(found))


def lineage(run: Run) -> tuple[DataSet, ...]:
    """Also what given synthetic inquiry faces come from: whoever made them used a net that learned from real faces."""
    identities = run.find(MakeIdentities)
    given = identities is not None and identities.source == "files" and identities.faces_are == "synthetic"
    return (*lineage_of_nets(run), *((unknown_origin("identities.faces"),) if given else ()))
