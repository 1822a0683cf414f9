"""Sampling, encoding and measuring images, for generate and refill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from cemiface.pixels import to_unit_range
from jobs.frame.method import GeneratedImage, ImageRequest, identity_name
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.unit import SetUnit
from jobs.methods.cemiface.calibrate.curve import calibration
from jobs.methods.cemiface.face_sampler import FaceSampler
from jobs.methods.cemiface.generate.plan import GenerateFaces
from jobs.methods.cemiface.generate.requests import SimilarityRequest, requests_of
from jobs.methods.cemiface.identities.plan import INQUIRIES
from jobs.stages.shared.embedding import load_embedder
from shards.embeddings.embeddings import read_embeddings
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.tars.records import SYNTHETIC
from slurm.ranks.stop import Stopped

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Images in the hands of the encoders."""

    requests: Sequence[SimilarityRequest]
    seeds: Sequence[int]
    ms: Sequence[float]  # given to the net
    condition: torch.Tensor  # (N, E), of the inquiry faces
    encoded: Sequence[Future[tuple[bytes, np.ndarray]]]


class FaceGenerator:
    """Samples faces, and encodes and measures them; entered once per tar, for its threads."""

    def __init__(self, run: Run, *, embedded: torch.Tensor, device: torch.device) -> None:
        self.config = run.section(GenerateFaces)
        self.seed, self.embedded, self.device = run.seed, embedded, device
        self.sampler = FaceSampler(run, self.config, device=device)
        self.embedder = load_embedder(run, device=device)
        self.curve = calibration(run) if self.config.target == "cosine" else None

    def __enter__(self) -> None:
        self.pool = ThreadPoolExecutor(self.config.encoders, thread_name_prefix="encode")

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def sampled(self, images: Sequence[SimilarityRequest], *, work: Work[Any], purpose: str = "face") -> _Batch:
        """Sample a batch, its noise drawn for `purpose`, and hand it to the encoders without waiting for them."""
        ms = [self.curve.m_for(one.similarity) if self.curve else one.similarity for one in images]
        seeds = [derive(self.seed, purpose, self._number(one)) for one in images]
        condition = self.embedded[[one.identity for one in images]]
        faces = self.sampler.faces(seeds, identity=condition, m=ms, on_step=lambda step: work.progress(0))
        encoded = [self.pool.submit(self._encoded, face) for face in faces]
        return _Batch(requests=images, seeds=seeds, ms=ms, condition=condition, encoded=encoded)

    def measured(self, batch: _Batch) -> Iterator[GeneratedImage]:
        """Every image with its record. What is stored is what is measured: the cosine is of the decoded JPEG."""
        jpegs, pixels = zip(*(future.result() for future in batch.encoded), strict=True)
        embedded = self.embedder(to_unit_range(np.stack(pixels), device=self.device)).cpu()
        cosines = torch.nn.functional.cosine_similarity(embedded, batch.condition).tolist()
        for request, seed, m, jpeg, cosine in zip(batch.requests, batch.seeds, batch.ms, jpegs, cosines, strict=True):
            record = {
                "identity": identity_name(request.identity),
                "index": request.index,
                "origin": SYNTHETIC,
                "asked": {"cosine": request.similarity} if self.curve else {"m": round(m, 6)},
                "m": round(m, 6),
                "seed": seed,
                "measured_cosine": round(cosine, 5),
            }
            record |= {"wished_cosine": request.similarity} if self.curve else {}
            yield GeneratedImage(request=request, jpeg=jpeg, record=record)

    def _number(self, request: SimilarityRequest) -> int:
        return request.identity * self.config.images_per_identity + request.index

    def _encoded(self, face: np.ndarray) -> tuple[bytes, np.ndarray]:
        jpeg = encode_jpeg(face, quality=self.config.quality)
        return jpeg, decode_rgb(jpeg)


class FaceRegenerator:
    """Generates images of the set again, as `refill` asks for them."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.run, self.config = run, run.section(GenerateFaces)
        embedded = read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features
        self.maker = FaceGenerator(run, embedded=torch.from_numpy(embedded), device=device)

    def remake(
        self, requests: Sequence[ImageRequest], *, attempt: int, work: Work[SetUnit]
    ) -> Iterator[GeneratedImage]:
        """Images of the same m with other noise, drawn for this attempt; their records say which attempt it was."""
        block, identities = range(work.unit.first, work.unit.last + 1), len(self.maker.embedded)
        known = {one.key: one for one in requests_of(self.config, block, identities=identities, seed=self.run.seed)}
        wanted, size = [known[request.key] for request in requests], self.config.batch
        with self.maker:
            for start in range(0, len(wanted), size):
                part = wanted[start : start + size]
                for image in self.maker.measured(
                    self.maker.sampled(part, work=work, purpose=f"face, attempt {attempt}")
                ):
                    yield replace(image, record=image.record | {"attempt": attempt})


def pipelined(items: Iterator[T]) -> Iterator[T]:
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
