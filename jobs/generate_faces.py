"""Generate: images of every inquiry identity at wished similarities m, one tar per block of identities.

A tar is a pure function of (config, seed): every image has its own noise generator, and batches are cut at the tar's
start, so that the bytes are the same for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from jobs.embedder import embedder_needs, load_embedder, to_bytes, to_unit_range
from jobs.make_identities import INQUIRIES
from jobs.seeds import derive
from jobs.stage import Finish, Run, Stage, StageConfig, Unit
from slurm.markers import Marker

if TYPE_CHECKING:
    import numpy as np

    from jobs.rank import Rank

SYNTHETIC = "synthetic"


class GenerateFaces(StageConfig):
    images_per_identity: int = Field(50, ge=1)
    similarity: tuple[Annotated[float, Field(ge=-1, le=1)], ...] = Field((0.0,), min_length=1)  # m; taken in turn
    steps: int = Field(20, ge=1, le=1000)  # DDIM
    eta: float = Field(0.0, ge=0, le=1)
    spacing: Literal["leading", "trailing"] = "leading"
    identities_per_shard: int = Field(200, ge=1)
    quality: int = Field(95, ge=1, le=100)  # JPEG
    batch: int = Field(64, ge=1)  # part of the result: another batch size may round differently


def plan(run: Run) -> list[Unit]:
    """One unit per tar: a block of identities."""
    config: GenerateFaces = run.section("generate")
    count = run.section("identities").count
    starts = range(0, count, config.identities_per_shard)
    return [
        {
            "tar": f"{SYNTHETIC}-{number:05d}.tar",
            "first": start,
            "last": min(start + config.identities_per_shard, count) - 1,
        }
        for number, start in enumerate(starts)
    ]


def run_rank(run: Run, rank: Rank) -> None:
    import torch

    from cemiface.denoiser import load_denoiser
    from cemiface.diffusion import Schedule
    from cemiface.sampler import ddim
    from jobs.device import rank_device
    from shards.embeddings import read_embeddings
    from shards.images import decode_rgb, encode_jpeg
    from shards.tar_writer import TarWriter

    config: GenerateFaces = run.section("generate")
    device = rank_device(rank)
    embedder = load_embedder(run, device=device)
    denoiser, diffusion = load_denoiser(run.stage_folder("train-diffusion").output("denoiser.safetensors"))
    denoiser.to(device)
    schedule = Schedule(diffusion, device=device)
    shape = (3, denoiser.config.image_size, denoiser.config.image_size)
    inquiries = torch.from_numpy(read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features)

    for work in rank.remaining():
        images = [
            (identity, index)
            for identity in range(work.unit["first"], work.unit["last"] + 1)
            for index in range(config.images_per_identity)
        ]
        with work.publishing(work.unit["tar"]) as file:
            tar = TarWriter(file)
            for first in range(0, len(images), config.batch):
                # Algorithm 2: noise per image, the identity's embedding and the wished m, DDIM.
                part = images[first : first + config.batch]
                numbers = [identity * config.images_per_identity + index for identity, index in part]
                m = [config.similarity[index % len(config.similarity)] for _, index in part]
                seeds = [derive(run.seed, "face", number) for number in numbers]
                generators = [torch.Generator().manual_seed(seed) for seed in seeds]
                noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
                condition = inquiries[[identity for identity, _ in part]]
                faces = ddim(
                    denoiser,
                    noise=noise.to(device),
                    identity=condition.to(device),
                    m=torch.tensor(m, device=device),
                    schedule=schedule,
                    steps=config.steps,
                    eta=config.eta,
                    spacing=config.spacing,
                    generators=generators,
                    on_step=lambda step, work=work: work.progress(0),  # type: ignore[misc]
                )

                # What is stored is what is measured: the cosine is taken of the decoded JPEG.
                jpegs = [encode_jpeg(face, quality=config.quality) for face in to_bytes(faces)]
                stored = to_unit_range(_stack([decode_rgb(jpeg) for jpeg in jpegs]), device=device)
                measured = torch.nn.functional.cosine_similarity(embedder(stored).cpu(), condition)
                for row, ((identity, index), jpeg) in enumerate(zip(part, jpegs, strict=True)):
                    record = {
                        "identity": f"{SYNTHETIC}-{identity:06d}",
                        "index": index,
                        "m": m[row],
                        "seed": seeds[row],
                        "measured_cosine": round(float(measured[row]), 5),
                    }
                    tar.add(f"{identity:06d}-{index:03d}", jpg=jpeg, record=record)
                work.progress(len(part))
            tar.close()
        work.done(images=len(images), counts={"generated": len(images)})


def _stack(images: list[np.ndarray]) -> np.ndarray:
    import numpy as np

    return np.stack(images)


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Measured cosine to the inquiry face by wished m: mean, spread and count."""
    import numpy as np

    from shards.shard_set import ShardSet

    folder = run.stage_folder("generate")
    shards = ShardSet([folder.output(output.name) for marker in markers for output in marker.outputs])
    measured: dict[float, list[float]] = {}
    for record in shards.records():
        measured.setdefault(record["m"], []).append(record["measured_cosine"])
    curve: list[dict[str, Any]] = [
        {
            "m": m,
            "mean": round(float(np.mean(measured[m])), 4),
            "std": round(float(np.std(measured[m])), 4),
            "images": len(measured[m]),
        }
        for m in sorted(measured)
    ]
    return Finish(figures={"identities": len(shards.classes), "measured_cosine": curve})


STAGE = Stage(
    name="generate",
    title="synthetic faces at wished similarities, as tars",
    config=GenerateFaces,
    needs=lambda run: ("train-diffusion", "identities", *embedder_needs(run)),
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=lambda run: run.section("identities").count * run.section("generate").images_per_identity,
)
