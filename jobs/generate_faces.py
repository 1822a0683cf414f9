"""Generate: images of every inquiry identity at wished similarities, one tar per block of identities.

A tar is a pure function of (config, seed): every image has its own noise generator, and batches are cut at the tar's
start, so that the bytes are the same for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from cemiface.config import MixturePart, mixture_values
from jobs.calibrate_faces import NAME as CALIBRATE
from jobs.calibrate_faces import calibration
from jobs.embedder import embedder_needs, load_embedder, to_unit_range
from jobs.make_identities import INQUIRIES
from jobs.sampling import FaceSampler, SamplingConfig, sampling_cost
from jobs.seeds import derive
from jobs.stage import OPERATIONAL, Cost, Finish, Run, Stage, Unit
from jobs.yaml_file import ConfigError
from slurm.markers import Marker
from slurm.stop import Stopped

if TYPE_CHECKING:
    import numpy as np
    import torch

    from jobs.rank import Rank, Work

SYNTHETIC = "synthetic"
T = TypeVar("T")


class GenerateFaces(SamplingConfig):
    images_per_identity: int = Field(50, ge=1)
    # The last so many identities get only so many images: the paper's 1.2M set is 20,000 x 50 and 40,000 x 5.
    few_identities: int = Field(0, ge=0)
    few_images: int = Field(5, ge=1)
    similarity: tuple[Annotated[float, Field(ge=-1, le=1)], ...] = Field((0.0,), min_length=1)  # taken in turn
    mixture: tuple[MixturePart, ...] = ()  # instead of `similarity`: parts with weights, each a grid, range or value
    # What the values above are: the m given to the net, or the cosine to the inquiry that the images shall have in
    # the mean. For cosines the stage `calibrate` measures which m does it.
    target: Literal["m", "cosine"] = "m"
    inquiry_copies: int = Field(0, ge=0)  # of the synthetic inquiry face, per identity (the paper: 5); never real ones
    identities_per_shard: int = Field(200, ge=1)
    encoders: int = Field(2, ge=1, **OPERATIONAL)  # threads that compress images while others are sampled

    @model_validator(mode="after")
    def _check_few(self) -> GenerateFaces:
        if self.few_identities and self.few_images > self.images_per_identity:
            raise ValueError(f"few_images: got {self.few_images}; allowed: 1 to images_per_identity")
        return self

    def images_of(self, identity: int, *, identities: int) -> int:
        """How many images are made of one of so many identities."""
        return self.few_images if identity >= identities - self.few_identities else self.images_per_identity


def plan(run: Run) -> list[Unit]:
    """One unit per tar: a block of identities.

    Raises:
        ConfigError: copies of inquiry faces are wished, and those may be real.
    """
    config: GenerateFaces = run.section("generate")
    if config.inquiry_copies and not run.section("identities").synthetic:
        raise ConfigError(
            f"generate.inquiry_copies: got {config.inquiry_copies} with inquiry faces of real people; allowed: 0, "
            "no real photo is ever written into a synthetic set; take identities.source: denoiser"
        )
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


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One image to make: of which identity, its number there, and the similarity asked for."""

    identity: int
    index: int
    similarity: float

    @property
    def key(self) -> str:
        return f"{self.identity:06d}-{self.index:03d}"


def wishes(config: GenerateFaces, block: range, *, identities: int, seed: int) -> list[Wish]:
    """The images of a block of identities in order; what is wished of one depends on (seed, identity, index) alone."""
    found = []
    for identity in block:
        count = config.images_of(identity, identities=identities)
        values = [config.similarity[index % len(config.similarity)] for index in range(count)]
        if config.mixture:
            offset = derive(seed, "mixture", identity) / 2**63
            values = mixture_values(config.mixture, count=count, offset=offset)
        found += [Wish(identity=identity, index=index, similarity=value) for index, value in enumerate(values)]
    return found


def run_rank(run: Run, rank: Rank) -> None:
    import torch

    from jobs.device import rank_device
    from jobs.kept import resumable_tar
    from shards.embeddings import read_embeddings
    from shards.shard_set import ShardSet

    config: GenerateFaces = run.section("generate")
    folder = run.stage_folder("identities")
    embedded = torch.from_numpy(read_embeddings(folder.output(f"{INQUIRIES}.h5")).features)
    inquiries = ShardSet([folder.output(f"{INQUIRIES}.tar")])
    maker = FaceMaker(run, embedded=embedded, device=rank_device(rank))
    for work in rank.remaining():
        block = range(work.unit["first"], work.unit["last"] + 1)
        images = wishes(config, block, identities=len(embedded), seed=run.seed)
        with maker, resumable_tar(work, work.unit["tar"]) as tar:
            parts = (images[start : start + config.batch] for start in range(tar.samples, len(images), config.batch))
            for batch in one_behind(maker.sampled(part, work=work) for part in parts):
                for wish, jpeg, record in maker.measured(batch):
                    tar.add(wish.key, jpg=jpeg, record=record)
                work.progress(len(batch.wishes))
            for identity, index in product(block, range(config.inquiry_copies)):
                record = {"identity": f"{SYNTHETIC}-{identity:06d}", "m": 1.0, "measured_cosine": 1.0}
                number = config.images_per_identity + index
                record |= {"index": number, "origin": "inquiry"}
                tar.add(f"{identity:06d}-{number:03d}", jpg=inquiries.jpeg(identity), record=record)
        copies = len(block) * config.inquiry_copies
        work.done(images=tar.samples, counts={"generated": len(images)} | ({"copied": copies} if copies else {}))


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Images in the hands of the encoders."""

    wishes: Sequence[Wish]
    seeds: Sequence[int]
    ms: Sequence[float]  # given to the net
    condition: torch.Tensor  # (N, E), of the inquiry faces
    encoded: Sequence[Future[tuple[bytes, np.ndarray]]]


class FaceMaker:
    """Samples faces, and encodes and measures them; entered once per tar, for its threads."""

    def __init__(self, run: Run, *, embedded: torch.Tensor, device: torch.device) -> None:
        self.config: GenerateFaces = run.section("generate")
        self.seed, self.embedded, self.device = run.seed, embedded, device
        self.sampler = FaceSampler(run, self.config, device=device)
        self.embedder = load_embedder(run, device=device)
        self.curve = calibration(run) if self.config.target == "cosine" else None

    def __enter__(self) -> None:
        self.pool = ThreadPoolExecutor(self.config.encoders, thread_name_prefix="encode")

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def sampled(self, images: Sequence[Wish], *, work: Work, purpose: str = "face") -> _Batch:
        """Sample a batch, its noise drawn for `purpose`, and hand it to the encoders without waiting for them."""
        ms = [self.curve.m_for(wish.similarity) if self.curve else wish.similarity for wish in images]
        seeds = [derive(self.seed, purpose, self._number(wish)) for wish in images]
        condition = self.embedded[[wish.identity for wish in images]]
        faces = self.sampler.faces(seeds, identity=condition, m=ms, on_step=lambda step: work.progress(0))
        encoded = [self.pool.submit(self._encoded, face) for face in faces]
        return _Batch(wishes=images, seeds=seeds, ms=ms, condition=condition, encoded=encoded)

    def measured(self, batch: _Batch) -> Iterator[tuple[Wish, bytes, dict[str, Any]]]:
        """Every image with its record. What is stored is what is measured: the cosine is of the decoded JPEG."""
        import numpy as np
        import torch

        jpegs, pixels = zip(*(future.result() for future in batch.encoded), strict=True)
        embedded = self.embedder(to_unit_range(np.stack(pixels), device=self.device)).cpu()
        cosines = torch.nn.functional.cosine_similarity(embedded, batch.condition).tolist()
        for wish, seed, m, jpeg, cosine in zip(batch.wishes, batch.seeds, batch.ms, jpegs, cosines, strict=True):
            record = {
                "identity": f"{SYNTHETIC}-{wish.identity:06d}",
                "index": wish.index,
                "m": round(m, 6),
                "seed": seed,
                "measured_cosine": round(cosine, 5),
            }
            yield wish, jpeg, record | ({"wished_cosine": wish.similarity} if self.curve else {})

    def _number(self, wish: Wish) -> int:
        return wish.identity * self.config.images_per_identity + wish.index

    def _encoded(self, face: np.ndarray) -> tuple[bytes, np.ndarray]:
        from shards.jpeg import decode_rgb, encode_jpeg

        jpeg = encode_jpeg(face, quality=self.config.quality)
        return jpeg, decode_rgb(jpeg)


def one_behind(items: Iterator[T]) -> Iterator[T]:
    """The items, each once the next one is made: whatever works on an item in the background gets that time.

    The last one comes also where a stop ends the making of the next.
    """
    before: list[T] = []
    try:
        for item in items:
            yield from before
            before = [item]
    except Stopped:
        yield from before
        raise
    yield from before


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Measured cosine to the inquiry face by what was asked for: mean, spread and count."""
    from shards.shard_set import ShardSet

    folder = run.stage_folder("generate")
    shards = ShardSet([folder.output(unit["tar"]) for unit in run.plan("generate")])
    records = [record for record in shards.records() if "origin" not in record]
    figures: dict[str, Any] = {
        "identities": len(shards.classes),
        "measured_cosine": curve_of([(record["m"], record["measured_cosine"]) for record in records], asked="m"),
    }
    if run.section("generate").target == "cosine":
        wished = [(record["wished_cosine"], record["measured_cosine"]) for record in records]
        figures["wished_cosine"] = curve_of(wished, asked="cosine")
    return Finish(figures=figures)


def curve_of(pairs: Sequence[tuple[float, float]], *, asked: str) -> list[dict[str, Any]]:
    """What cosines came of each value asked for, by rising value."""
    import numpy as np

    values, cosines = (np.array(column) for column in zip(*pairs, strict=True))
    return [
        {
            asked: float(value),
            "mean": round(float(cosines[values == value].mean()), 4),
            "std": round(float(cosines[values == value].std()), 4),
            "images": int((values == value).sum()),
        }
        for value in np.unique(values)
    ]


def needs(run: Run) -> tuple[str, ...]:
    calibrated = (CALIBRATE,) if run.section("generate").target == "cosine" else ()
    return ("train-diffusion", "identities", *calibrated, *embedder_needs(run))


def expected_images(run: Run) -> int:
    config: GenerateFaces = run.section("generate")
    people = run.section("identities").count
    few = min(config.few_identities, people)
    return (people - few) * config.images_per_identity + few * config.few_images


def cost(run: Run) -> Cost:
    config: GenerateFaces = run.section("generate")
    images = expected_images(run)
    copies = run.section("identities").count * config.inquiry_copies
    return sampling_cost(run, config, images=images, stored=images + copies)


STAGE = Stage(
    name="generate",
    title="synthetic faces at wished similarities, as tars",
    config=GenerateFaces,
    needs=needs,
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=expected_images,
    cost=cost,
)
