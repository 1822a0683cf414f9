"""The data sets behind a GANDiffFace set: those that its generator, its base and E_id were trained on."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.given import FIELD as FACES_FIELD
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import MakeCandidates
from jobs.methods.gandiffface.personalize.plan import NAME as PERSONALIZE
from jobs.methods.gandiffface.personalize.plan import Personalize
from jobs.methods.gandiffface.personalize.text_base import FIELD
from jobs.methods.gandiffface.train_base.plan import NAME as TRAIN_BASE
from jobs.methods.gandiffface.train_base.plan import TrainBase
from jobs.methods.gandiffface.train_gan.plan import NAME as TRAIN_GAN
from jobs.methods.gandiffface.train_gan.plan import TrainGan
from jobs.stages.shared.gate.lineage import lineage_of_embedder, lineage_of_weights, own_faces
from shards.privacy.lineage import DataSet, unknown_origin


def lineage(run: Run) -> tuple[DataSet, ...]:
    """The run's own faces, and what given nets and given faces bring with them.

    Attribute nets are not among them: they give a few numbers of a face, which hold no image. `given_parts` lists them.
    """
    found = [own_faces(run), *lineage_of_embedder(run)]
    candidates = run.find(MakeCandidates)
    if candidates is not None and candidates.generator:
        found += lineage_of_weights(run.path(candidates.generator), field=f"{CANDIDATES}.generator")
    elif run.find(TrainGan) is not None:
        found += lineage_of_gan(run)
    if candidates is not None and candidates.faces:
        named = candidates.faces.trained_on
        found.append(DataSet(name=named) if named else unknown_origin(FACES_FIELD))
    personalize = run.find(Personalize)
    if personalize is not None and personalize.text_base:
        named = (
            personalize.text_base_source.trained_on if personalize.text_base_source else ""
        )  # such folders do not say it
        found.append(DataSet(name=named) if named else unknown_origin(FIELD))
    elif personalize is not None and personalize.base:
        found += lineage_of_weights(run.path(personalize.base), field=f"{PERSONALIZE}.base")
    elif run.find(TrainBase) is not None:
        found += lineage_of_base(run)
    return tuple(dict.fromkeys(found))


def lineage_of_gan(run: Run) -> tuple[DataSet, ...]:
    """What the GAN of this run learns from: the run's own faces, and those behind weights that it continues from."""
    weights, found = run.section(TrainGan).initial_weights, [own_faces(run)]
    if weights:
        found += lineage_of_weights(run.path(weights), field=f"{TRAIN_GAN}.initial_weights")
    return tuple(dict.fromkeys(found))


def lineage_of_base(run: Run) -> tuple[DataSet, ...]:
    """What the base of this run learns from: the run's own faces, and those behind weights that it continues from."""
    weights, found = run.section(TrainBase).initial_weights, [own_faces(run)]
    if weights:
        found += lineage_of_weights(run.path(weights), field=f"{TRAIN_BASE}.initial_weights")
    return tuple(dict.fromkeys(found))
