"""Sources of candidates for inquiry faces: our own denoiser, the real training faces, or files of the user.

A source returns faces by candidate number. They do not depend on how the numbers are divided into batches and ranks.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from cemiface.errors import ModelError
from jobs.frame.products import REAL
from jobs.frame.rank import Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.cemiface.face_sampler import FaceSampler
from jobs.methods.cemiface.identities.plan import CandidatesUnit, MakeIdentities, listed_files
from jobs.methods.cemiface.train_diffusion.plan import TrainDiffusion
from jobs.stages.shard.plan import ShardFaces
from shards.images.faces import UnreadableFaceError
from shards.images.jpeg import decode_rgb
from shards.images.prepare import prepare
from shards.images.rules import ImageRules
from shards.sources.sources import open_source
from shards.tars.shard_set import ShardSet


class CandidateSource(Protocol):
    """Faces by candidate number."""

    def __init__(self, run: Run, *, device: torch.device) -> None: ...

    def faces(self, numbers: range, *, work: Work[CandidatesUnit]) -> dict[int, np.ndarray]:
        """The uint8 faces (S, S, 3) of these candidates, without those that are not usable."""

    def origin(self, number: int) -> dict[str, str | int]:
        """The fields of the record that hold where a candidate comes from."""


def candidate_source(run: Run, *, device: torch.device) -> CandidateSource:
    """The source that `identities.source` names."""
    kinds: dict[str, type[CandidateSource]] = {"denoiser": _DenoiserSource, "real": _RealSource, "files": _FileSource}
    return kinds[run.section(MakeIdentities).source](run, device=device)


class _DenoiserSource:
    """Unconditional samples of our own denoiser; the noise of candidate k follows from (seed, k) alone."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.sampler, self.seed = FaceSampler(run, run.section(MakeIdentities), device=device), run.seed

    def faces(self, numbers: range, *, work: Work[CandidatesUnit]) -> dict[int, np.ndarray]:
        seeds = [derive(self.seed, "candidate", number) for number in numbers]
        faces = self.sampler.faces(seeds, on_step=lambda step: work.progress(0))
        work.progress(len(numbers))
        return dict(zip(numbers, faces, strict=True))

    def origin(self, number: int) -> dict[str, str | int]:
        return {"origin": "denoiser", "candidate": number}


class _RealSource:
    """One image of each real training person; people and images are drawn from the seed."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        config = run.section(MakeIdentities)
        self.shards = ShardSet(run.ledger.outputs("shard", prefix=REAL, suffix=".tar"))
        if config.candidates > len(self.shards.classes):
            raise ModelError(
                f"identities.candidates: got {config.candidates}, allowed: 1 to {len(self.shards.classes)} "
                "(one image per real training person); lower it or take source: denoiser"
            )
        generator = np.random.default_rng(derive(run.seed, "inquiry photos"))
        people = generator.permutation(len(self.shards.classes))[: config.candidates]
        self.rows = [int(generator.choice(np.flatnonzero(self.shards.labels == person))) for person in people]

    def faces(self, numbers: range, *, work: Work[CandidatesUnit]) -> dict[int, np.ndarray]:
        work.progress(len(numbers))
        return {number: self.shards.rgb(self.rows[number]) for number in numbers}

    def origin(self, number: int) -> dict[str, str | int]:
        return {"origin": "real", "key": self.shards.keys[self.rows[number]]}


class _FileSource:
    """Faces of a folder or an archive, in an order that follows from the seed, without unusable ones."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        config = run.section(MakeIdentities)
        self.source, self.files = open_source(run.path(str(config.faces))), listed_files(run)
        self.origin_name = config.faces_are
        training = run.find(TrainDiffusion)
        size = training.denoiser.image_size if training else run.section(ShardFaces).image_size
        self.rules = ImageRules(size=size, resize="center", quality=config.quality)

    def faces(self, numbers: range, *, work: Work[CandidatesUnit]) -> dict[int, np.ndarray]:
        found = {}
        for number in numbers:
            try:
                jpeg = prepare(self.source.read(self.files[number]), rules=self.rules).jpeg
            except UnreadableFaceError:
                continue
            if jpeg is not None:
                found[number] = decode_rgb(jpeg)
        work.progress(len(numbers))
        return found

    def origin(self, number: int) -> dict[str, str | int]:
        return {"origin": self.origin_name, "file": self.files[number].path}
