"""The audit's net, and a leak check of single images by the audit's own net, real faces and thresholds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch

from cemiface.recognition.nets import Embedder, load_recognition
from jobs.frame.ledger import again
from jobs.frame.products import CENTERS, EMBEDDER, FINGERPRINT, WEIGHTS
from jobs.frame.run import Run
from jobs.frame.verdicts import all_references, recorded_vectors, verdict_of
from jobs.stages.audit.plan import AuditFaces
from jobs.stages.fingerprint.plan import FingerprintFaces, audit_net_path
from jobs.stages.shared.embedding import Images, NamedImages, embed, load_embedder
from jobs.stages.shared.gate.copies import CopyFinder
from shards.images.jpeg import decode_rgb
from shards.privacy.fingerprints import Vectors, mirror_invariant
from shards.privacy.leaks import IDENTITY_REASONS, Leak
from shards.privacy.search import search, search_identities
from shards.privacy.synthetic_faces import SyntheticFaces
from shards.privacy.thresholds import identity_leaks, leaks_of
from slurm.errors import RunError
from slurm.files import sha256_of

# Takes the number of images done. Called with 0 it tells that the rank is alive and stops it if that was asked for.
Progress = Callable[[int], None]


def load_audit_net(run: Run, *, device: torch.device) -> Embedder:
    """The audit's net on a device: the given one, else E_id."""
    given = run.section(FingerprintFaces).judge
    if given.weights is None:
        return load_embedder(run, device=device)
    return load_recognition(audit_net_path(run), color=given.color).to(device)


def load_recorded_net(run: Run, *, device: torch.device) -> Embedder:
    """The audit's net, if it is the one that the real faces were fingerprinted with.

    Raises:
        RunError: its file has other bytes now.
    """
    given = run.section(FingerprintFaces).judge.weights
    field = "fingerprint.judge.weights" if given else "embedder.weights"
    summary = run.ledger.summary(FINGERPRINT)
    recorded = summary.fingerprint.get("files", {}).get(field) if summary else None
    if recorded is None:  # E_id, trained by this run
        os.close(run.ledger.open(EMBEDDER, WEIGHTS))
    elif sha256_of(audit_net_path(run)) != recorded:
        raise RunError(f"{field}: the file is not the one that faces were fingerprinted with; {again(FINGERPRINT)}")
    return load_audit_net(run, device=device)


def audit_features(images: Images, *, net: Embedder, batch: int, progress: Progress) -> np.ndarray:
    """Unit embeddings (N, D) of a set's images together with their mirror images."""
    return mirror_invariant(*embed(images, embedder=net, batch=batch, progress=progress))


class LeakCheck:
    """Compares images with all real faces. Net and centers are loaded with the first image: most tars have none."""

    def __init__(self, run: Run, *, device: torch.device) -> None:
        self.run, self.device = run, device
        self.thresholds = verdict_of(run).thresholds

    def leaked(self, jpegs: Sequence[bytes], *, keys: Sequence[str], progress: Progress) -> set[str]:
        """Keys of the N images that are too close to a real face or center, each by itself."""
        if not keys:
            return set()
        # Each image is an identity of its own here; the means of identities are checked by `settle`.
        images = _decoded(jpegs, keys=keys, identities=keys)
        features = self._features(images, progress=progress)
        own = SyntheticFaces.of(images.keys, identities=images.identities, features=features, images=images.images)
        centers, none = self._centers, features[:0]
        parts = all_references(self.run)
        copies = self._altered.search_images(images, on_batch=lambda: progress(0))
        found = search(own, parts, centers=centers, probes=none, copies=copies, on_part=lambda: progress(0))
        return {leak.key for leak in leaks_of(found, self.thresholds) if leak.reason not in IDENTITY_REASONS}

    def leaks_of_people(
        self, jpegs: Sequence[bytes], *, keys: Sequence[str], identities: Sequence[str], progress: Progress
    ) -> list[Leak]:
        """The N images whose identity is too close to a real face or center by the mean of these images."""
        if not keys:
            return []
        found = search_identities(
            identities,
            self._features(_decoded(jpegs, keys=keys, identities=identities), progress=progress),
            all_references(self.run),
            centers=self._centers,
            on_part=lambda: progress(0),
        )
        return identity_leaks(found, dict(zip(keys, identities, strict=True)), self.thresholds)

    def _features(self, images: NamedImages, *, progress: Progress) -> np.ndarray:
        batch = self.run.section(AuditFaces).batch
        return audit_features(images, net=self._net, batch=batch, progress=lambda _: progress(0))

    @cached_property
    def _net(self) -> Embedder:
        return load_recorded_net(self.run, device=self.device)

    @cached_property
    def _altered(self) -> CopyFinder:
        return CopyFinder(self.run, device=self.device)

    @cached_property
    def _centers(self) -> Vectors:
        return recorded_vectors(self.run, CENTERS)


def _decoded(jpegs: Sequence[bytes], *, keys: Sequence[str], identities: Sequence[str]) -> NamedImages:
    images = [decode_rgb(jpeg) for jpeg in jpegs]
    return NamedImages(keys=list(keys), identities=list(identities), images=images)
