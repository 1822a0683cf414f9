"""Copies of real images by their pixels: equal ones by SHA-256, nearly equal ones by perceptual hash."""

from __future__ import annotations

import numpy as np

from shards.embeddings.nearest import NearestSearch
from shards.privacy.fingerprints import Fingerprints
from shards.privacy.leaks import Leak, Reason
from shards.privacy.synthetic_faces import SyntheticFaces

# Bits of 256 in which the perceptual hashes of two copies of one image may differ. On the aligned crops of LFW, JPEG
# quality 50, rescaling from 64 or 32 pixels and noise stay within 24. The nearest image of another person is above 32
# except for six pairs, which are one image under two names. 64 bits with the usual limit of 4 confuse 6 % of these
# images.
NEAR_BITS = 24

HASH_BITS = 256

NEAR_COSINE = 1 - 2 * NEAR_BITS / HASH_BITS  # of hashes whose bits are -1 and 1


class ExactCopies:
    """Finds synthetic images whose pixels are those of a real image, mirrored or not.

    Attributes:
        leaks: found so far.
    """

    def __init__(self, synthetic: SyntheticFaces) -> None:
        self.leaks: list[Leak] = []
        self._by_hash: dict[bytes, list[tuple[str, Reason]]] = {}
        for reason, hashes in (
            (Reason.EXACT_PIXELS, synthetic.exact),
            (Reason.EXACT_MIRRORED, synthetic.exact_mirrored),
        ):
            for key, row in zip(synthetic.keys, hashes, strict=True):
                self._by_hash.setdefault(row.tobytes(), []).append((key, reason))

    def add(self, part: Fingerprints) -> None:
        """Compare with some real images. Only the first real image with the same pixels is reported."""
        for real, row in zip(part.keys, part.exact, strict=True):
            for key, reason in self._by_hash.pop(row.tobytes(), ()):
                self.leaks.append(Leak(key=key, reason=reason, real=real))


class NearCopies:
    """Finds synthetic images whose perceptual hash is within `NEAR_BITS` of that of a real image, mirrored or not."""

    def __init__(self, synthetic: SyntheticFaces) -> None:
        self._keys = synthetic.keys
        self._search = NearestSearch(_hash_vectors(np.concatenate([synthetic.near, synthetic.near_mirrored])))

    def add(self, part: Fingerprints) -> None:
        """Compare with some real images."""
        self._search.add(_hash_vectors(part.near), part.keys)

    @property
    def leaks(self) -> list[Leak]:
        """Found so far: per image and mirror image the nearest real image, if it is near enough."""
        count = len(self._keys)
        reasons = [Reason.NEAR_PIXELS] * count + [Reason.NEAR_MIRRORED] * count
        rows = np.flatnonzero(self._search.cosine >= NEAR_COSINE - 1e-6).tolist()
        return [Leak(key=self._keys[row % count], reason=reasons[row], real=self._search.name[row]) for row in rows]


def _hash_vectors(hashes: np.ndarray) -> np.ndarray:
    """Hashes (N, 32) uint8 as unit vectors (N, 256): a cosine of 1 - 2 b / 256 means b differing bits."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)
    return (bits * 2 - 1) / np.float32(HASH_BITS**0.5)
