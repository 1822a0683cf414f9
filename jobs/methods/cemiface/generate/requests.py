"""The identity and the similarity requested for each image."""

from __future__ import annotations

from dataclasses import dataclass

from cemiface.semihard.config import mixture_values
from jobs.frame.method import ImageRequest
from jobs.frame.seeds import derive
from jobs.methods.cemiface.generate.plan import GenerateFaces


@dataclass(frozen=True, kw_only=True)
class SimilarityRequest(ImageRequest):
    """An image and its requested similarity: m, or with `target: cosine` the cosine to the inquiry face."""

    similarity: float


def requests_of(config: GenerateFaces, block: range, *, identities: int, seed: int) -> list[SimilarityRequest]:
    """The images of a block of identities, in order; each request depends on (seed, identity, index) alone."""
    found = []
    for identity in block:
        count = config.images_of(identity, identities=identities)
        values = [config.similarity[index % len(config.similarity)] for index in range(count)]
        if config.mixture:
            offset = derive(seed, "mixture", identity) / 2**63
            values = mixture_values(config.mixture, count=count, offset=offset)
        found += [
            SimilarityRequest(identity=identity, index=index, similarity=value) for index, value in enumerate(values)
        ]
    return found
