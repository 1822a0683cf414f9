"""The method GANDiffFace (Melzi et al., ICCV workshops 2023, arXiv 2305.19962), as the shared stages use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cemiface.gandiff.slots import slot_denoiser_cost
from jobs.frame.method import CardText, Method
from jobs.frame.run import Run
from jobs.methods.gandiffface.attributes.plan import STAGE as ATTRIBUTES
from jobs.methods.gandiffface.candidates.plan import STAGE as CANDIDATES
from jobs.methods.gandiffface.directions.plan import STAGE as DIRECTIONS
from jobs.methods.gandiffface.generate.plan import STAGE as GENERATE
from jobs.methods.gandiffface.generate.plan import GeneratePictures, asked_values
from jobs.methods.gandiffface.given_parts import recorded_parts
from jobs.methods.gandiffface.identities.plan import STAGE as IDENTITIES
from jobs.methods.gandiffface.identities.plan import MakeIdentities, identities_of
from jobs.methods.gandiffface.lineage import lineage
from jobs.methods.gandiffface.personalize.plan import STAGE as PERSONALIZE
from jobs.methods.gandiffface.portraits.plan import FACES
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS_NAME
from jobs.methods.gandiffface.portraits.plan import STAGE as PORTRAITS
from jobs.methods.gandiffface.study_scores.plan import STAGE as STUDY_SCORES
from jobs.methods.gandiffface.train_base.plan import STAGE as TRAIN_BASE
from jobs.methods.gandiffface.train_base.plan import TrainBase
from jobs.methods.gandiffface.train_gan.plan import STAGE as TRAIN_GAN
from jobs.stages.chain import chain_of

GIGA = 1e9
STAGES = (TRAIN_GAN, CANDIDATES, DIRECTIONS, IDENTITIES, PORTRAITS, ATTRIBUTES, TRAIN_BASE, PERSONALIZE, GENERATE)


def card(run: Run) -> CardText:
    """What the card of a published set says about the method."""
    target = run.section(MakeIdentities).target
    balanced = f" Identities were chosen for shares of {', '.join(target)}." if target else ""
    parts = recorded_parts(run)
    return CardText(
        summary=(
            "Synthetic faces made with GANDiffFace (ICCV workshops 2023): a GAN makes the identities, and a diffusion "
            f"model that learned each of them makes its pictures from prompts.{balanced}"
        ),
        limits=(
            *(
                f"Given, {part['role']}: {part['name']}, license: {part['license']}, origin: {part['origin']}."
                for part in parts
            ),
            "Gender, age, pose and expression are estimates of small nets; their errors are in docs/attributes.md.",
            "Each record holds what was asked and what was measured; missed_slots counts where they differ.",
        ),
        citation=(
            "Made with GANDiffFace: Controllable Generation of Synthetic Datasets for Face Recognition with Realistic "
            "Variations, ICCV workshops 2023, arXiv 2305.19962."
        ),
    )


def identity_faces(run: Run) -> Path:
    """The unedited portraits, one per identity."""
    return run.stage_folder(PORTRAITS_NAME).output(FACES)


def describe(run: Run) -> dict[str, Any]:
    """Size and cost of the base, and the size of the set."""
    found: dict[str, Any] = {}
    base = run.find(TrainBase)
    if base is not None:
        cost = slot_denoiser_cost(base.denoiser)
        found["base"] = {
            "parameters": cost.parameters + cost.adapter_parameters,
            "gmacs": round(cost.macs / GIGA, 3),
            "image_size": base.denoiser.image_size,
            "training_images": base.images,
        }
    if run.find(MakeIdentities) is not None and run.find(GeneratePictures) is not None:
        images = GENERATE.expected_images(run) or 0
        found |= {"identities": identities_of(run), "images": images, "shards": len(run.ledger.units(GENERATE))}
    return found


METHOD = Method(
    name="gandiffface",
    chain=chain_of(STAGES, studies=(STUDY_SCORES,)),
    own_stages=tuple(stage.name for stage in STAGES),
    identities=PORTRAITS,
    generate=GENERATE,
    remaker="jobs.methods.gandiffface.generate.pictures:PictureRemaker",
    report_parts="jobs.methods.gandiffface.report_parts.parts:PARTS",
    training_plots="jobs.methods.gandiffface.report_parts.training:training_plots",
    card=card,
    lineage=lineage,
    identity_faces=identity_faces,
    asked_values=asked_values,
    describe=describe,
)
