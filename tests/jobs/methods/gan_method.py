"""A method of the stage train-gan alone, so that the stage can be tried by itself. Its other stages are the toy's."""

from __future__ import annotations

from toy_method import FACES_STAGE, PEOPLE_STAGE

from jobs.frame.method import CardText, Method
from jobs.methods.gandiffface.train_gan.plan import STAGE
from jobs.stages.chain import chain_of

METHOD = Method(
    name="gan", chain=chain_of((STAGE, PEOPLE_STAGE, FACES_STAGE)), own_stages=(STAGE.name, "identities", "draw"),
    identities=PEOPLE_STAGE, generate=FACES_STAGE, remaker="toy_method:Artist", report_parts="toy_method:PARTS",
    card=lambda run: CardText(summary="Faces.", limits=(), citation="Nobody."),
    lineage=lambda run: (),
)  # fmt: skip
