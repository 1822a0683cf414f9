"""The method CemiFace (Sun et al., NeurIPS 2024, arXiv 2409.18876), as the shared stages use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cemiface.semihard.cost import denoiser_cost
from jobs.frame.errors import ConfigError
from jobs.frame.method import CardText, Method
from jobs.frame.run import Run
from jobs.methods.cemiface.calibrate.plan import STAGE as CALIBRATE
from jobs.methods.cemiface.generate.plan import STAGE as GENERATE
from jobs.methods.cemiface.generate.plan import GenerateFaces, asked_values
from jobs.methods.cemiface.identities.plan import INQUIRIES, MakeIdentities
from jobs.methods.cemiface.identities.plan import STAGE as IDENTITIES
from jobs.methods.cemiface.lineage import lineage
from jobs.methods.cemiface.study_groups.plan import STAGE as STUDY_GROUPS
from jobs.methods.cemiface.study_m.plan import STAGE as STUDY_M
from jobs.methods.cemiface.train_diffusion.plan import STAGE as TRAIN_DIFFUSION
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion
from jobs.stages.chain import chain_of
from jobs.stages.train_recognition.plan import TrainEmbedder

GIGA = 1e9
STAGES = (TRAIN_DIFFUSION, IDENTITIES, CALIBRATE, GENERATE)


def card(run: Run) -> CardText:
    """What the card of a published set says about the method."""
    return CardText(
        summary=(
            "Synthetic faces made with CemiFace (NeurIPS 2024): a diffusion model conditioned on an identity and on a "
            f"requested similarity m to it. {_origin(run.section(MakeIdentities))}"
        ),
        limits=("The similarity m is the requested one; each record holds the measured similarity.",),
        citation=(
            "Made with CemiFace: Center-based Semi-hard Synthetic Face Generation for Face Recognition, NeurIPS 2024, "
            "arXiv 2409.18876."
        ),
    )


def _origin(identities: MakeIdentities) -> str:
    """Who the identities are, as the card states it."""
    if identities.synthetic:
        return f"Identities come from: {identities.source}."
    return f"The identities are real people (source: {identities.source}). Ground: {identities.consent}."


def real_faces(run: Run) -> tuple[tuple[str, str], ...]:
    """The inquiry faces, where they show real people that are not of the stage shard."""
    identities = run.find(MakeIdentities)
    real = identities is not None and identities.source == "files" and identities.faces_are == "real"
    return ((IDENTITIES.name, f"{INQUIRIES}.tar"),) if real else ()


def check_publishable(run: Run) -> None:
    """Refuse sets whose identities are real people, unless the config says on what ground they may be published.

    Raises:
        ConfigError: it does not.
    """
    identities = run.section(MakeIdentities)
    if not identities.synthetic and not identities.consent:
        raise ConfigError(
            f"identities.consent: got nothing with source: {identities.source}, whose inquiry faces show real people; "
            "allowed for `publish`: the ground on which these people may be imitated; give it, use source: denoiser, "
            "or remove the section publish"
        )


def identity_faces(run: Run) -> Path:
    """The inquiry faces, one per identity."""
    return run.stage_folder("identities").output(f"{INQUIRIES}.tar")


def describe(run: Run) -> dict[str, Any]:
    """Size and cost of the denoiser, and the size of the set."""
    found: dict[str, Any] = {}
    training, identities, generate = run.find(TrainDiffusion), run.find(MakeIdentities), run.find(GenerateFaces)
    if training is not None:
        embedder = run.find(TrainEmbedder) if run.includes("train-embedder") else None
        width = {"embedding": embedder.recognition.embedding} if embedder else {}
        cost = denoiser_cost(training.denoiser.model_copy(update=width))
        found["denoiser"] = {
            "parameters": cost.parameters,
            "adapter_parameters": cost.adapter_parameters,
            "gmacs": round(cost.macs / GIGA, 3),
            "image_size": training.denoiser.image_size,
            "training_images": training.images,
        }
    if identities is not None and generate is not None:
        copies = identities.count * generate.inquiry_copies
        images = (GENERATE.expected_images(run) or 0) + copies
        found |= {"identities": identities.count, "images": images, "shards": len(run.ledger.units(GENERATE))}
    return found


METHOD = Method(
    name="cemiface",
    chain=chain_of(STAGES, studies=(STUDY_GROUPS, STUDY_M)),
    own_stages=tuple(stage.name for stage in STAGES),
    identities=IDENTITIES,
    generate=GENERATE,
    remaker="jobs.methods.cemiface.generate.face_generator:FaceRegenerator",
    report_parts="jobs.methods.cemiface.report_parts.parts:PARTS",
    training_plots="jobs.methods.cemiface.report_parts.training:training_plots",
    card=card,
    lineage=lineage,
    real_faces=real_faces,
    asked_values=asked_values,
    check_publishable=check_publishable,
    identity_faces=identity_faces,
    describe=describe,
)
