"""The method CemiFace (Sun et al., NeurIPS 2024, arXiv 2409.18876), as the shared stages use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cemiface.semihard.cost import denoiser_cost
from jobs.frame.method import CardText, DataSource, Method
from jobs.frame.run import Run
from jobs.methods.cemiface.calibrate.plan import STAGE as CALIBRATE
from jobs.methods.cemiface.generate.plan import STAGE as GENERATE
from jobs.methods.cemiface.generate.plan import GenerateFaces
from jobs.methods.cemiface.identities.plan import INQUIRIES, MakeIdentities
from jobs.methods.cemiface.identities.plan import STAGE as IDENTITIES
from jobs.methods.cemiface.study_groups.plan import STAGE as STUDY_GROUPS
from jobs.methods.cemiface.study_m.plan import STAGE as STUDY_M
from jobs.methods.cemiface.train_diffusion.plan import STAGE as TRAIN_DIFFUSION
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion
from jobs.stages.chain import chain_of
from jobs.stages.publish.plan import PublishSet
from jobs.stages.train_recognition.plan import TrainEmbedder

GIGA = 1e9
OWN_FACES = "the real faces of this run"  # names of private files and folders are not published
STAGES = (TRAIN_DIFFUSION, IDENTITIES, CALIBRATE, GENERATE)


def card(run: Run) -> CardText:
    """What the card of a published set says about the method."""
    return CardText(
        summary=(
            "Synthetic faces made with CemiFace (NeurIPS 2024): a diffusion model conditioned on an identity and on a "
            f"requested similarity m to it. Identities come from: {run.section(MakeIdentities).source}."
        ),
        limits=("The similarity m is the requested one; each record holds the measured similarity.",),
        citation=(
            "Made with CemiFace: Center-based Semi-hard Synthetic Face Generation for Face Recognition, NeurIPS 2024, "
            "arXiv 2409.18876."
        ),
    )


def lineage(run: Run) -> tuple[DataSource, ...]:
    """The run's own faces, which the audit compares the set with, and what given weights were trained on."""
    published = run.find(PublishSet)
    sharded = run.ledger.summary("shard")
    own = DataSource(
        name=OWN_FACES,
        license=published.consent if published else None,
        sha256=sharded.outcome if sharded else None,
        held_against=True,
    )
    training = run.find(TrainDiffusion)
    given = {
        "E_id": (run.config.embedder.weights, "embedder.weights"),
        "denoiser": (training.initial_weights if training else None, f"{TRAIN_DIFFUSION.name}.initial_weights"),
    }
    return (
        own,
        *(
            DataSource(
                name=f"unknown origin: what the given {net} was trained on",
                license=None,
                sha256=_recorded_sha256(run, field),
                held_against=False,
            )
            for net, (weights, field) in given.items()
            if weights
        ),
    )


def _recorded_sha256(run: Run, field: str) -> str | None:
    """The hash of a given file as a finished stage recorded it; the file itself may be on another machine by now."""
    for stage in run.chain:
        summary = run.ledger.summary(stage.name)
        files: dict[str, str] = summary.fingerprint.get("files", {}) if summary else {}
        if field in files:
            return files[field]
    return None


def identity_faces(run: Run) -> Path:
    """The inquiry faces, one per identity."""
    return run.stage_folder("identities").output(f"{INQUIRIES}.tar")


def describe(run: Run) -> dict[str, Any]:
    """Size and cost of the denoiser, and the size of the set."""
    found: dict[str, Any] = {}
    training, identities, generate = run.find(TrainDiffusion), run.find(MakeIdentities), run.find(GenerateFaces)
    if training is not None:
        embedder = run.find(TrainEmbedder) if run.asks_for("train-embedder") else None
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
    identity_faces=identity_faces,
    describe=describe,
)
