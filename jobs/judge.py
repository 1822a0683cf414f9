"""Judging images after the audit, as the audit judged: the same net, real faces and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jobs.audit_faces import all_references, verdict_of
from jobs.fingerprint_faces import CENTERS, judged_features, load_judge, reference_files
from jobs.stage import Run
from shards.audit import leaks_of, leaks_of_people
from shards.findings import OF_THE_IDENTITY, Leak, Suspects, search, search_people
from shards.jpeg import decode_rgb

if TYPE_CHECKING:
    import torch

    from cemiface.recognition import Embedder
    from jobs.rank import Work
    from shards.references import Vectors


class Judge:
    """The net and the centers are loaded with the first image to judge: most tars have none."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.run, self.device = run, device
        self.thresholds = verdict_of(run).thresholds

    def leaked(self, jpegs: Sequence[bytes], *, keys: Sequence[str], work: Work) -> set[str]:
        """Keys of the N images that are too close to a real face or center, each by itself."""
        if not keys:
            return set()
        images = _decoded(jpegs)
        features = self._features(images, work=work)
        # An identity of its own for each image: who they are together is judged once the set is settled.
        own = Suspects.of(list(keys), identities=list(keys), features=features, images=images)
        centers, none = self._centers, features[:0]
        parts = all_references(self.run)
        found = search(own, parts, centers=centers, probes=none, on_part=lambda: work.progress(0))
        return {leak.key for leak in leaks_of(found, self.thresholds) if leak.reason not in OF_THE_IDENTITY}

    def leaks_of_people(
        self, jpegs: Sequence[bytes], *, keys: Sequence[str], identities: Sequence[str], work: Work
    ) -> list[Leak]:
        """The N images whose identity is too close to a real face or center by the mean of these images."""
        from shards.references import read_vectors

        if not keys:
            return []
        found = search_people(
            identities,
            self._features(_decoded(jpegs), work=work),
            (read_vectors(path) for path in reference_files(self.run)),
            centers=self._centers,
            on_part=lambda: work.progress(0),
        )
        return leaks_of_people(found, dict(zip(keys, identities, strict=True)), self.thresholds)

    def _features(self, images: _Decoded, *, work: Work) -> np.ndarray:
        batch = self.run.section("audit").batch
        return judged_features(images, judge=self._net, batch=batch, progress=lambda _: work.progress(0))

    @cached_property
    def _net(self) -> Embedder:
        return load_judge(self.run, device=self.device)

    @cached_property
    def _centers(self) -> Vectors:
        from shards.references import read_vectors

        return read_vectors(self.run.stage_folder("fingerprint").output(CENTERS))


class _Decoded(list[np.ndarray]):
    """Images in memory."""

    def rgb(self, index: int) -> np.ndarray:
        return self[index]


def _decoded(jpegs: Sequence[bytes]) -> _Decoded:
    return _Decoded([decode_rgb(jpeg) for jpeg in jpegs])
