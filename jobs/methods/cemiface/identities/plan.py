"""Identities: choose inquiry faces, whose cosines to each other are below a limit (0.3 in the paper).

An inquiry face (the paper's word) is the image that defines a synthetic identity: the denoiser is conditioned on its
embedding. The record of each identity holds where its face comes from. With `denoiser` the faces are unconditional
samples of our own net, of people who do not exist. With `real` they are one image of each real training person (1-shot,
as in the paper), which ties every synthetic person to a real one: such sets are for study, not for release. With
`files` they come from a folder or archive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from cemiface.errors import ModelError
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, final, operational
from jobs.frame.unit import Unit
from jobs.methods.cemiface.sampling import SamplingConfig, sampling_cost
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion
from jobs.stages.shard.counts import known_identities
from jobs.stages.shard.losses import warn_of_losses
from jobs.stages.shared.embedder import embedder_needs
from shards.sources.private_tars import why_real
from shards.sources.sources import open_source
from slurm.files import digest, sha256_of

if TYPE_CHECKING:
    from shards.images.faces import Face


def listed_files(run: Run) -> list[Face]:
    """The files of up to `candidates` faces, in an order that follows from the seed.

    Raises:
        ModelError: there is no such source, or it holds faces marked as real that the config calls synthetic.
    """
    config = run.section(MakeIdentities)
    root = run.path(str(config.faces))
    if not root.exists():
        raise ModelError(f"identities.faces: got {root}, no such file or folder; give identity folders of images")
    real = why_real(root) if config.synthetic else None
    if real is not None:
        raise ModelError(f"identities.faces_are: got synthetic, but {real}; allowed for {root}: real")
    listing = open_source(root).listing()
    warn_of_losses(listing, field="identities.faces", where=str(root))
    faces = listing.faces
    order = np.random.default_rng(derive(run.seed, "inquiry files")).permutation(len(faces))
    return [faces[position] for position in order[: config.candidates].tolist()]


INQUIRIES = "inquiries"  # .tar with the faces, .h5 with their embeddings

Share = Annotated[float, Field(gt=0, le=1)]


class MakeIdentities(SamplingConfig):
    """Where inquiry faces come from, and how they are chosen."""

    source: Literal["denoiser", "real", "files"] = Field(
        "denoiser",
        description=(
            "Where inquiry faces come from: denoiser samples people who do not exist; real takes one image of "
            "each training identity, as the paper does, for study only; files takes those of `faces`."
        ),
    )
    faces: PathText | None = Field(
        None,
        description="For source: files: folders of identities with images, or a zip, tar or RecordIO file of such.",
    )
    faces_are: Literal["real", "synthetic"] = Field(
        "real",
        description=(
            "For source: files: whether the people in `faces` exist. A set made from real people is for study only."
        ),
    )
    consent: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description=(
            "For inquiry faces of real people (source: real, or files with faces_are: real): the ground on which these "
            "people may be imitated in a published set; its card prints it. Without it, such a set is not published."
        ),
        json_schema_extra=operational(),
    )
    count: int = Field(
        10_000,
        ge=1,
        description="Identities of the synthetic set. The default is that of the paper's 0.5M set (section 4.1).",
        json_schema_extra=final(),
    )
    candidates: int = Field(
        40_000,
        ge=1,
        description=(
            "Faces to choose the inquiry faces from, at most. Those of the denoiser are sampled first, each "
            "at the cost of one image; real has one per identity at most."
        ),
    )
    block: int = Field(1000, ge=1, description="Candidates per unit of work.")
    max_cosine: float = Field(
        0.3,
        gt=-1,
        le=1,
        description=(
            "Largest cosine between any two inquiry faces under E_id, above -1 to 1. The default is the "
            "paper's (section 3.2). Lower needs more candidates."
        ),
        json_schema_extra=final(),
    )
    attributes: PathText | None = Field(
        None,
        description=(
            'File that gives the group of each candidate, in lines "candidate-0000012<TAB>group", for a '
            "balanced set. The candidates lie in the stage folder once this stage has made them."
        ),
        json_schema_extra=final(),
    )
    quotas: dict[str, Share] = Field(
        {},
        description=(
            "Share of each group of `attributes` among the identities, above 0 to 1, adding up to 1. Empty: no balance."
        ),
        json_schema_extra=final(),
    )
    batch: int = Field(
        32,
        ge=1,
        description=(
            "Images sampled or embedded at once by each rank. More needs more memory; another batch size may "
            "round differently."
        ),
    )

    @property
    def synthetic(self) -> bool:
        """Whether the inquiry faces show people who do not exist."""
        return self.source == "denoiser" or (self.source == "files" and self.faces_are == "synthetic")

    @model_validator(mode="after")
    def _check_sources(self) -> MakeIdentities:
        if (self.faces is not None) != (self.source == "files"):
            raise ValueError(f"faces: got {self.faces} with source: {self.source}; allowed: a path for source: files")
        if bool(self.quotas) != (self.attributes is not None):
            raise ValueError("quotas: attributes and quotas belong together; give both or neither")
        if self.quotas and abs(sum(self.quotas.values()) - 1) > 1e-6:
            raise ValueError(f"quotas: got a sum of {sum(self.quotas.values()):.4f}; allowed: shares that add up to 1")
        return self


@dataclass(frozen=True, kw_only=True)
class CandidatesUnit(Unit):
    """The candidates `start` to `stop` - 1; `faces` is a digest of their files with `source: files`."""

    start: int
    stop: int
    faces: str | None = None


def plan(run: Run) -> list[CandidatesUnit]:
    """Blocks of candidate numbers; with `source: files` each has a digest of file names and sizes to detect changes."""
    config = run.section(MakeIdentities)
    if config.source == "files":
        files = listed_files(run)
        parts = [files[start : start + config.block] for start in range(0, len(files), config.block)]
        firsts = range(0, len(files), config.block)
        return [
            CandidatesUnit(
                start=first,
                stop=first + len(part),
                faces=digest([[face.path, face.bytes] for face in part]),
            )
            for first, part in zip(firsts, parts, strict=True)
        ]
    starts = range(0, config.candidates, config.block)
    return [CandidatesUnit(start=start, stop=min(start + config.block, config.candidates)) for start in starts]


def needs(run: Run) -> tuple[str, ...]:
    stages = {"denoiser": ("train-diffusion",), "real": ("shard",), "files": ()}
    return (*stages[run.section(MakeIdentities).source], *embedder_needs(run))


def check_launch(run: Run) -> None:
    """Refuse more identities than candidates, and more candidates than there are people.

    Raises:
        ConfigError: there are.
    """
    config = run.section(MakeIdentities)
    candidates = sum(unit.stop - unit.start for unit in run.ledger.units(STAGE))
    if config.count > candidates:
        what = "files" if config.source == "files" and candidates < config.candidates else "candidates"
        raise ConfigError(
            f"identities.count: got {config.count} of {candidates} {what}; allowed: 1 to {candidates}; lower it, or "
            "raise identities.candidates"
        )
    people = known_identities(run) if config.source == "real" else None
    if people is not None and config.candidates > people:
        raise ConfigError(
            f"identities.candidates: got {config.candidates}; allowed: 1 to {people} (one image per real training "
            "person); lower it or take source: denoiser"
        )


def _attributes_digest(run: Run) -> dict[str, str]:
    """The digest of the file of attributes, empty while there is no such file."""
    attributes = run.section(MakeIdentities).attributes
    if attributes is None:
        return {}
    path = run.path(attributes)
    return {"identities.attributes": sha256_of(path) if path.is_file() else ""}


def cost(run: Run) -> Cost:
    """The cost of candidates and chosen faces, each stored with its embedding and that of its mirror image."""
    config = run.section(MakeIdentities)
    candidates = sum(unit.stop - unit.start for unit in run.ledger.units(STAGE))
    sampled = candidates if config.source == "denoiser" else 0
    stored = sampling_cost(run, config, images=sampled, stored=candidates + config.count)
    training = run.find(TrainDiffusion)
    embeddings = 8 * training.denoiser.embedding if training else 0
    return replace(stored, disk_bytes=stored.disk_bytes + (candidates + config.count) * embeddings)


STAGE: Stage[CandidatesUnit] = Stage(
    unit=CandidatesUnit,
    name="identities",
    title="the inquiry face of each synthetic identity",
    config=MakeIdentities,
    needs=needs,
    final_files=_attributes_digest,
    check_launch=check_launch,
    plan=plan,
    work="jobs.methods.cemiface.identities.work",
    expected_images=lambda run: sum(unit.stop - unit.start for unit in run.ledger.units(STAGE)),
    cost=cost,
)
