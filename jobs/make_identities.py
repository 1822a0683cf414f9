"""Identities: inquiry faces, each of which becomes one synthetic person, pairwise below a cosine of 0.3.

Where they come from is recorded per identity. `denoiser` takes unconditional samples of our own net: people who do
not exist. `real` takes one photo of each real training person (1-shot, as the paper does), which ties every synthetic
person to a real one; sets made so are for study, not for release.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cemiface.errors import ModelError
from jobs.embedder import embedder_needs, load_embedder, to_unit_range
from jobs.seeds import derive
from jobs.shard_faces import REAL
from jobs.stage import Finish, Run, Stage, StageConfig, Unit
from slurm.files import publishing
from slurm.markers import Marker

if TYPE_CHECKING:
    import numpy as np
    import torch

    from jobs.rank import Rank, Work

INQUIRIES = "inquiries"  # .tar with the faces, .h5 with their embeddings


class MakeIdentities(StageConfig):
    source: Literal["denoiser", "real"] = "denoiser"
    count: int = Field(10_000, ge=1)  # identities wanted
    candidates: int = Field(40_000, ge=1)  # faces drawn to choose from; "real" has one per person at most
    block: int = Field(1000, ge=1)  # candidates per unit of work
    max_cosine: float = Field(0.3, gt=-1, le=1)  # between any two inquiry faces (paper, section 3.2)
    steps: int = Field(20, ge=1, le=1000)  # DDIM
    quality: int = Field(95, ge=1, le=100)
    batch: int = Field(32, ge=1)


def plan(run: Run) -> list[Unit]:
    """Blocks of candidate numbers."""
    config: MakeIdentities = run.section("identities")
    starts = range(0, config.candidates, config.block)
    return [{"start": start, "stop": min(start + config.block, config.candidates)} for start in starts]


def needs(run: Run) -> tuple[str, ...]:
    source = ("shard",) if run.section("identities").source == "real" else ("train-diffusion",)
    return (*source, *embedder_needs(run))


def run_rank(run: Run, rank: Rank) -> None:
    import numpy as np

    from jobs.device import rank_device
    from shards.embeddings import embeddings_bytes, with_similarity
    from shards.images import decode_rgb, encode_jpeg
    from shards.tar_writer import TarWriter

    config: MakeIdentities = run.section("identities")
    device = rank_device(rank)
    embedder = load_embedder(run, device=device)
    source = _Photos(run) if config.source == "real" else _Samples(run, device=device)
    for work in rank.remaining():
        number = f"{work.number:05d}"
        keys, features, flipped = [], [], []
        with work.publishing(f"candidates-{number}.tar") as file:
            tar = TarWriter(file)
            for first in range(work.unit["start"], work.unit["stop"], config.batch):
                candidates = range(first, min(first + config.batch, work.unit["stop"]))
                faces = source.faces(candidates, work=work)
                # Embeddings are taken of the pixels that are stored, not of those before JPEG.
                jpegs = [encode_jpeg(face, quality=config.quality) for face in faces]
                x = to_unit_range(np.stack([decode_rgb(jpeg) for jpeg in jpegs]), device=device)
                features.append(embedder(x).detach().cpu().numpy())
                flipped.append(embedder(x.flip(3)).detach().cpu().numpy())
                for candidate, jpeg in zip(candidates, jpegs, strict=True):
                    keys.append(f"candidate-{candidate:07d}")
                    tar.add(keys[-1], jpg=jpeg, record={"identity": keys[-1], **source.origin(candidate)})
            tar.close()
        embedded = with_similarity(
            keys, identities=keys, features=np.concatenate(features), flipped=np.concatenate(flipped)
        )
        work.publish(f"candidates-{number}.h5", embeddings_bytes(embedded, embedder=config.source))
        work.done(images=len(keys), counts={})


class _Samples:
    """Unconditional samples of our own denoiser; candidate k's noise comes from (seed, k) alone."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        from cemiface.denoiser import load_denoiser
        from cemiface.diffusion import Schedule

        self.denoiser, diffusion = load_denoiser(run.stage_folder("train-diffusion").output("denoiser.safetensors"))
        self.denoiser.to(device)
        self.schedule = Schedule(diffusion, device=device)
        self.steps, self.seed, self.device = run.section("identities").steps, run.seed, device

    def faces(self, candidates: range, *, work: Work) -> np.ndarray:
        import torch

        from cemiface.sampler import ddim
        from jobs.embedder import to_bytes

        shape = (3, self.denoiser.config.image_size, self.denoiser.config.image_size)
        generators = [torch.Generator().manual_seed(derive(self.seed, "candidate", number)) for number in candidates]
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(self.device)
        count = len(candidates)
        images = ddim(
            self.denoiser,
            noise=noise,
            identity=torch.zeros(count, self.denoiser.config.embedding, device=self.device),
            m=torch.zeros(count, device=self.device),
            null=torch.ones(count, dtype=torch.bool, device=self.device),
            schedule=self.schedule,
            steps=self.steps,
            on_step=lambda step: work.progress(0),
        )
        work.progress(count)
        return to_bytes(images)

    def origin(self, candidate: int) -> dict[str, Any]:
        return {"origin": "denoiser", "candidate": candidate}


class _Photos:
    """One photo of each real training person, both chosen by the seed."""

    def __init__(self, run: Run) -> None:
        import numpy as np

        from shards.shard_set import ShardSet

        config: MakeIdentities = run.section("identities")
        self.shards = ShardSet(run.outputs("shard", prefix=REAL, suffix=".tar"))
        if config.candidates > len(self.shards.classes):
            raise ModelError(
                f"identities.candidates: got {config.candidates}, allowed: 1 to {len(self.shards.classes)} "
                "(one photo per real training person); lower it or take source: denoiser"
            )
        generator = np.random.default_rng(derive(run.seed, "inquiry photos"))
        people = generator.permutation(len(self.shards.classes))[: config.candidates]
        self.rows = [int(generator.choice(np.flatnonzero(self.shards.labels == person))) for person in people]

    def faces(self, candidates: range, *, work: Work) -> np.ndarray:
        import numpy as np

        work.progress(len(candidates))
        return np.stack([self.shards.rgb(self.rows[candidate]) for candidate in candidates])

    def origin(self, candidate: int) -> dict[str, Any]:
        return {"origin": "real", "key": self.shards.keys[self.rows[candidate]]}


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Choose greedily, in candidate order, and write the chosen faces and their embeddings.

    Raises:
        ModelError: fewer candidates than wanted are far enough apart.
    """
    import numpy as np

    from shards.embeddings import embeddings_bytes, read_embeddings, with_similarity
    from shards.shard_set import ShardSet
    from shards.tar_writer import TarWriter

    config: MakeIdentities = run.section("identities")
    folder = run.stage_folder("identities")
    numbers = [f"{marker.unit:05d}" for marker in markers]
    parts = [read_embeddings(folder.output(f"candidates-{number}.h5")) for number in numbers]
    features = np.concatenate([part.features for part in parts])
    flipped = np.concatenate([part.flipped for part in parts])
    chosen = choose(features, count=config.count, max_cosine=config.max_cosine)
    if len(chosen) < config.count:
        raise ModelError(
            f"identities: only {len(chosen)} of {len(features)} candidates are pairwise below a cosine of "
            f"{config.max_cosine}, wanted {config.count}; raise identities.candidates or lower identities.count"
        )
    shards = ShardSet([folder.output(f"candidates-{number}.tar") for number in numbers])
    keys = [f"synthetic-{number:06d}" for number in range(len(chosen))]
    with publishing(folder.output(f"{INQUIRIES}.tar"), replace=True) as file:
        tar = TarWriter(file)
        for key, row in zip(keys, chosen, strict=True):
            tar.add(key, jpg=shards.jpeg(row), record={**shards.record(row), "identity": key})
        tar.close()
    faces = file.output(f"{INQUIRIES}.tar")
    embedded = with_similarity(keys, identities=keys, features=features[chosen], flipped=flipped[chosen])
    with publishing(folder.output(f"{INQUIRIES}.h5"), replace=True) as file:
        file.write(embeddings_bytes(embedded, embedder=config.source))
    return Finish(
        outputs=(faces, file.output(f"{INQUIRIES}.h5")),
        images_out=len(chosen),
        counts={"chosen": len(chosen), "too_similar_or_spare": len(features) - len(chosen)},
        figures={"identities": len(chosen), "candidates": len(features), "source": config.source},
    )


def choose(features: np.ndarray, *, count: int, max_cosine: float, block: int = 4096) -> list[int]:
    """Rows of `features` (N, E), in order, whose cosine to every row chosen before is below `max_cosine`.

    Candidates are held against the chosen ones a block at a time: memory is block x count floats.
    """
    import numpy as np

    from shards.centers import normalized

    kept = np.empty((count, features.shape[1]), np.float32)
    rows: list[int] = []
    for first in range(0, len(features), block):
        unit = normalized(features[first : first + block])
        free = (unit @ kept[: len(rows)].T < max_cosine).all(axis=1)
        among = unit @ unit.T
        own: list[int] = []
        for row in np.flatnonzero(free):
            if len(rows) == count:
                return rows
            if not own or among[row, own].max() < max_cosine:
                kept[len(rows)] = unit[row]
                rows.append(first + int(row))
                own.append(int(row))
    return rows


STAGE = Stage(
    name="identities",
    title="inquiry faces of people who do not exist, pairwise far enough apart",
    config=MakeIdentities,
    needs=needs,
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=lambda run: run.section("identities").candidates,
)
