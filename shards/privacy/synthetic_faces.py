"""The synthetic images of one tar, as the leak search needs them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shards.privacy.fingerprints import hashes_of


@dataclass(frozen=True, kw_only=True)
class SyntheticFaces:
    """N synthetic images that are searched for leaks.

    Attributes:
        keys, identities: N names each.
        features: (N, D) float32 unit embeddings, by the same net as the fingerprints of the real faces.
        exact, exact_mirrored: (N, 32) uint8, SHA-256 of the pixels of the images and of their mirror images.
        near, near_mirrored: (N, 32) uint8, perceptual hashes of the images and of their mirror images.
    """

    keys: list[str]
    identities: list[str]
    features: np.ndarray
    exact: np.ndarray
    exact_mirrored: np.ndarray
    near: np.ndarray
    near_mirrored: np.ndarray

    @staticmethod
    def of(
        keys: list[str], *, identities: list[str], features: np.ndarray, images: Iterable[np.ndarray]
    ) -> SyntheticFaces:
        """Hash (H, W, 3) uint8 images, at least one; the iterable is read once."""
        both = (side for rgb in images for side in (rgb, np.ascontiguousarray(rgb[:, ::-1])))
        exact, near = hashes_of(both)
        return SyntheticFaces(
            keys=keys,
            identities=identities,
            features=features,
            exact=exact[::2],
            exact_mirrored=exact[1::2],
            near=near[::2],
            near_mirrored=near[1::2],
        )
