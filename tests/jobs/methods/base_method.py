"""A method of the stages attributes, train-base and personalize, with drawn portraits, so that they can be tried."""

from __future__ import annotations

import sys

import numpy as np
from toy_method import FACES_STAGE

from jobs.frame.method import CardText, ImageRequest, Method, identity_name
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.attributes.plan import STAGE as ATTRIBUTES
from jobs.methods.gandiffface.identities.plan import IdentitiesUnit, MakeIdentities
from jobs.methods.gandiffface.personalize.plan import STAGE as PERSONALIZE
from jobs.methods.gandiffface.portraits import plan as portraits
from jobs.methods.gandiffface.train_base.plan import STAGE as TRAIN_BASE
from jobs.stages.chain import chain_of
from jobs.stages.shared.tars import publishing_tar
from shards.images.jpeg import encode_jpeg

SIZE = 16
SHORT = 2  # an identity of which all edits failed


def run_rank(run: Run, rank: Rank) -> None:
    if rank.stage.name == "identities":
        for work in rank.remaining(IdentitiesUnit):
            work.publish(work.unit.file, b"{}")
            work.done(images=0, counts={})
        return
    count = run.section(portraits.MakePortraits).count
    for work in rank.remaining(portraits.PortraitsUnit):
        with publishing_tar(work.path(work.unit.tar), record=work.record) as tar:
            for identity in range(work.unit.first, work.unit.last + 1):
                for index in range(1 if identity == SHORT else count):
                    request = ImageRequest(identity=identity, index=index)
                    face = _drawn(identity, index)
                    measured = {"light": float(face.mean() / 255), "yaw": float(10 * index - 10)}
                    record = {"identity": identity_name(identity), "index": index, "origin": "synthetic"}
                    jpeg = encode_jpeg(face, quality=95)
                    tar.add(request.key, jpg=jpeg, record=record | {"measured": measured, "asked": {}})
        work.done(images=tar.samples, counts={"drawn": tar.samples})


def _drawn(identity: int, index: int) -> np.ndarray:
    draw = np.random.default_rng(derive(0, "person", identity))
    face = np.full((SIZE, SIZE, 3), draw.integers(0, 256, 3))
    return np.clip(face + np.random.default_rng(index).integers(-20, 20, face.shape), 0, 255).astype(np.uint8)


HERE = sys.modules[__name__].__name__
IDENTITIES: Stage[Unit] = Stage(
    name="identities", title="people", config=MakeIdentities, unit=IdentitiesUnit, work=HERE,
    needs=lambda run: ("shard",), plan=lambda run: [IdentitiesUnit()],
)  # fmt: skip
PORTRAITS: Stage[Unit] = Stage(
    name="portraits", title="drawn portraits", config=portraits.MakePortraits, unit=portraits.PortraitsUnit, work=HERE,
    needs=lambda run: ("identities",), plan=portraits.plan,
)  # fmt: skip
STAGES = (ATTRIBUTES, TRAIN_BASE, IDENTITIES, PORTRAITS, PERSONALIZE)
METHOD = Method(
    name="base", chain=chain_of((*STAGES, FACES_STAGE)), own_stages=(*(stage.name for stage in STAGES), "draw"),
    identities=IDENTITIES, generate=FACES_STAGE, remaker="toy_method:Artist", report_parts="toy_method:PARTS",
    card=lambda run: CardText(summary="Faces.", limits=(), citation="Nobody."),
    lineage=lambda run: (),
)  # fmt: skip
