"""Sampling images, encoding them and measuring their cosines, for generate and refill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from cemiface.pixels import to_unit_range
from jobs.frame.method import GeneratedImage, ImageRequest, identity_name
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.unit import SetUnit
from jobs.methods.cemiface.calibrate.files import read_calibration
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
class _SampledBatch:
    """Images that are being encoded."""

    requests: Sequence[SimilarityRequest]
    seeds: Sequence[int]
    ms: Sequence[float]  # the m that the denoiser gets
    condition: torch.Tensor  # (N, E), embeddings of the inquiry faces
    encoded: Sequence[Future[tuple[bytes, np.ndarray]]]  # JPEG, and the pixels that it decodes to


class FaceGenerator:
    """Samples, encodes and measures faces; entering it starts the encoder threads.

    `embedded` (identities, E) holds the embeddings of all inquiry faces.
    """

    def __init__(self, run: Run, *, embedded: torch.Tensor, device: torch.device) -> None:
        self.config = run.section(GenerateFaces)
        self.seed, self.embedded, self.device = run.seed, embedded, device
        self.sampler = FaceSampler(run, self.config, device=device)
        self.embedder = load_embedder(run, device=device)
        self.calibration = read_calibration(run) if self.config.target == "cosine" else None

    def __enter__(self) -> None:
        self.pool = ThreadPoolExecutor(self.config.encoders, thread_name_prefix="encode")

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def sample(
        self, requests: Sequence[SimilarityRequest], *, work: Work[SetUnit], purpose: str = "face"
    ) -> _SampledBatch:
        """Sample a batch and start to encode it. The noise of an image follows from (seed, `purpose`, number)."""
        ms = [self.calibration.m_for(one.similarity) if self.calibration else one.similarity for one in requests]
        seeds = [derive(self.seed, purpose, self._number(one)) for one in requests]
        condition = self.embedded[[one.identity for one in requests]]
        faces = self.sampler.faces(seeds, identity=condition, m=ms, on_step=lambda step: work.progress(0))
        encoded = [self.pool.submit(self._encode, face) for face in faces]
        return _SampledBatch(requests=requests, seeds=seeds, ms=ms, condition=condition, encoded=encoded)

    def measure(self, batch: _SampledBatch) -> Iterator[GeneratedImage]:
        """The images with their records; the cosine to the inquiry face is that of the stored JPEG."""
        jpegs, pixels = zip(*(future.result() for future in batch.encoded), strict=True)
        embedded = self.embedder(to_unit_range(np.stack(pixels), device=self.device)).cpu()
        cosines = torch.nn.functional.cosine_similarity(embedded, batch.condition).tolist()
        for request, seed, m, jpeg, cosine in zip(batch.requests, batch.seeds, batch.ms, jpegs, cosines, strict=True):
            record = {
                "identity": identity_name(request.identity),
                "index": request.index,
                "origin": SYNTHETIC,
                "asked": {"cosine": request.similarity} if self.calibration else {"m": round(m, 6)},
                "m": round(m, 6),
                "seed": seed,
                "measured_cosine": round(cosine, 5),
            }
            record |= {"wished_cosine": request.similarity} if self.calibration else {}
            yield GeneratedImage(request=request, jpeg=jpeg, record=record)

    def _number(self, request: SimilarityRequest) -> int:
        """The number of an image in a set where every identity has the same number of images."""
        return request.identity * self.config.images_per_identity + request.index

    def _encode(self, face: np.ndarray) -> tuple[bytes, np.ndarray]:
        jpeg = encode_jpeg(face, quality=self.config.quality)
        return jpeg, decode_rgb(jpeg)


class FaceRegenerator:
    """Generates images of the set again for the stage refill."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.run, self.config = run, run.section(GenerateFaces)
        embedded = read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features
        self.generator = FaceGenerator(run, embedded=torch.from_numpy(embedded), device=device)

    def remake(
        self, requests: Sequence[ImageRequest], *, attempt: int, work: Work[SetUnit]
    ) -> Iterator[GeneratedImage]:
        """Images of the same m with other noise, which depends on `attempt`; their records hold the attempt."""
        block, identities = range(work.unit.first, work.unit.last + 1), len(self.generator.embedded)
        known = {one.key: one for one in requests_of(self.config, block, identities=identities, seed=self.run.seed)}
        requested, size = [known[request.key] for request in requests], self.config.batch
        with self.generator:
            for start in range(0, len(requested), size):
                batch = self.generator.sample(
                    requested[start : start + size], work=work, purpose=f"face, attempt {attempt}"
                )
                for image in self.generator.measure(batch):
                    yield replace(image, record=image.record | {"attempt": attempt})


def pipelined(items: Iterator[T]) -> Iterator[T]:
    """Yield each item after the next one is made, so that background work on an item has time to finish.

    If making the next item raises Stopped, the last item is still yielded before the exception continues.
    """
    last: list[T] = []
    try:
        for item in items:
            yield from last
            last = [item]
    except Stopped:
        yield from last
        raise
    yield from last
