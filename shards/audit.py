"""Does a synthetic set leak real faces? Pixels, near pixels and embeddings against everything real.

The embedder of an audit must not be the one that guided or was trained on the set, or it judges its own work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from shards.centers import normalized
from shards.errors import DataError
from shards.images import perceptual_hash, pixel_hash

# Bits of 256 in which two perceptual hashes of one picture may differ. On the aligned crops of LFW, JPEG quality 50,
# rescaling from 64 or 32 pixels and noise stay within 24; the nearest image of another person is above 32 but for
# six pairs, which are one picture under two names. 64 bits with the usual limit of 4 confuse 6% of these images.
NEAR_BITS = 24
HASH_BITS = 256
EXPECTED_ALARMS = 5  # unseen faces behind a threshold
EXPECTED_MATCHES = 10  # false matches behind a threshold: its rate is then known to about a third (1 / sqrt(10))
BINS = 2**20  # of cosines in [-1, 1]: 2e-6 wide, near the resolution of float32


class Reason(StrEnum):
    """Why a synthetic image counts as a leak."""

    EXACT_PIXELS = "exact_pixels"
    EXACT_MIRRORED = "exact_mirrored"
    NEAR_PIXELS = "near_pixels"
    NEAR_MIRRORED = "near_mirrored"
    TOO_SIMILAR = "too_similar"  # to the embedder


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One synthetic image, the nearest real one, and their cosine (None for pixel reasons)."""

    key: str
    reason: Reason
    real_key: str
    cosine: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of an audit.

    Attributes:
        images, references: synthetic images judged, real images they were compared with.
        embedder, threshold: by this net, cosines at or above `threshold` count as the same person.
        basis: where the threshold comes from, in words.
        judged: sha256 by name of the tars judged; the verdict holds for these bytes only.
        leaks: at most one per image and reason.
    """

    images: int
    references: int
    embedder: str
    threshold: float
    basis: str
    judged: Mapping[str, str]
    leaks: tuple[Leak, ...]

    @property
    def dropped(self) -> list[str]:
        """Keys that must not be published, sorted."""
        return sorted({leak.key for leak in self.leaks})

    def record(self) -> dict[str, Any]:
        """The verdict as JSON-ready values, with leaks counted by reason."""
        counts = {reason.value: sum(leak.reason == reason for leak in self.leaks) for reason in Reason}
        leaks = [
            {"key": leak.key, "reason": leak.reason.value, "real_key": leak.real_key, "cosine": leak.cosine}
            for leak in self.leaks
        ]
        names = ("images", "references", "embedder", "threshold", "basis")
        plain = {name: getattr(self, name) for name in names}
        return plain | {"judged": dict(self.judged), "leaks": leaks, "counts": counts, "dropped": self.dropped}


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Hashes of N images and of their mirror images.

    Attributes:
        exact, exact_mirrored: SHA-256 of the pixels.
        near, near_mirrored: (N, 256) int8, the bits of the perceptual hash as -1 and 1, so that a cosine of
            1 - 2 b / 256 means b differing bits.
    """

    keys: list[str]
    exact: list[str]
    exact_mirrored: list[str]
    near: np.ndarray
    near_mirrored: np.ndarray


def fingerprint(images: Iterable[tuple[str, np.ndarray]]) -> Fingerprints:
    """Hash (key, (H, W, 3) uint8) pairs; at least one."""
    rows = [(key, *_hashes(rgb), *_hashes(np.ascontiguousarray(rgb[:, ::-1]))) for key, rgb in images]
    keys, exact, near, exact_mirrored, near_mirrored = (list(column) for column in zip(*rows, strict=True))
    return Fingerprints(
        keys=keys,
        exact=exact,
        exact_mirrored=exact_mirrored,
        near=np.stack(near),
        near_mirrored=np.stack(near_mirrored),
    )


def pixel_leaks(synthetic: Fingerprints, real: Fingerprints) -> list[Leak]:
    """Synthetic images that are a real image, mirrored or not: bit by bit, or by perceptual hash."""
    leaks = []
    known = dict(zip(reversed(real.exact), reversed(real.keys), strict=True))
    for reason, hashes in ((Reason.EXACT_PIXELS, synthetic.exact), (Reason.EXACT_MIRRORED, synthetic.exact_mirrored)):
        pairs = zip(synthetic.keys, hashes, strict=True)
        leaks += [Leak(key=key, reason=reason, real_key=known[text]) for key, text in pairs if text in known]
    for reason, near in ((Reason.NEAR_PIXELS, synthetic.near), (Reason.NEAR_MIRRORED, synthetic.near_mirrored)):
        index, cosine = nearest(near, real.near)
        leaks += [
            Leak(key=synthetic.keys[row], reason=reason, real_key=real.keys[index[row]])
            for row in map(int, np.flatnonzero(cosine >= 1 - 2 * NEAR_BITS / HASH_BITS))
        ]
    return leaks


def embedding_leaks(
    keys: Sequence[str],
    *,
    features: np.ndarray,
    real_keys: Sequence[str],
    real_features: np.ndarray,
    threshold: float,
) -> list[Leak]:
    """Rows of `features` whose nearest real row is at or above the threshold: the same person to the embedder.

    Rows may be images or class means, on both sides.
    """
    index, cosine = nearest(features, real_features)
    return [
        Leak(key=keys[row], reason=Reason.TOO_SIMILAR, real_key=real_keys[index[row]], cosine=float(cosine[row]))
        for row in map(int, np.flatnonzero(cosine >= threshold))
    ]


def nearest(queries: np.ndarray, references: np.ndarray, *, block: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """The reference of highest cosine for each query, in memory of block x block floats.

    Args:
        queries: (N, D), any length.
        references: (M, D), M >= 1.

    Returns:
        (N,) int64 row of the reference (the first of equals) and (N,) float32 cosine.
    """
    index = np.zeros(len(queries), np.int64)
    cosine = np.full(len(queries), -np.inf, np.float32)
    for own in _slices(len(queries), block):
        unit = normalized(queries[own])
        for other in _slices(len(references), block):
            scores = unit @ normalized(references[other]).T
            best = scores.argmax(axis=1)
            value = scores[np.arange(len(best)), best]
            better = value > cosine[own]
            index[own] = np.where(better, best + other.start, index[own])
            cosine[own] = np.where(better, value, cosine[own])
    return index, cosine.clip(-1, 1)


def unseen_threshold(unseen: np.ndarray, references: np.ndarray, *, rate: float) -> float:
    """The cosine that the nearest reference reaches for at most `rate` of the faces of people who are not among them.

    A synthetic image above it is nearer to a real face than faces of strangers are. This counts what an audit does,
    the nearest of all references, and it does not rest on cosines among people the net was trained to tell apart.

    Args:
        unseen: (N, D) embeddings of real people who are in no reference, any length.
        references: (M, D) embeddings of the real training faces.

    Raises:
        DataError: `rate` is not within (0, 1), or N faces cannot resolve it.
    """
    if not 0 < rate < 1:
        raise DataError(f"rate: got {rate}, allowed are values between 0 and 1")
    allowed = int(rate * len(unseen))
    if allowed < EXPECTED_ALARMS:
        lowest = EXPECTED_ALARMS / len(unseen)
        raise DataError(f"rate: got {rate}, {len(unseen)} unseen faces resolve at least {lowest:.1e}; hold out more")
    _, cosine = nearest(unseen, references)
    # Above the (allowed + 1)-th highest, by the smallest step: so many faces reach it, no more.
    return float(np.nextafter(np.sort(cosine)[-1 - allowed], np.float32(2)))


def impostor_threshold(
    features: np.ndarray, labels: np.ndarray, *, fmr: float, images: int = 20_000, block: int = 2048
) -> float:
    """The lowest cosine at which at most `fmr` of the non-mated pairs count as the same person (>= threshold).

    Counts all pairs of at most `images` rows, evenly spaced through the set, in a histogram of 2e-6 wide bins:
    20,000 rows are 2e8 pairs, enough for 1e-6. The rate is that of this sample; below ten false matches the
    threshold would hang on single pairs.

    Args:
        features: (N, D), any length.
        labels: (N,) identity of each row.

    Raises:
        DataError: `fmr` is not within (0, 1), the pairs are too few to resolve it, or so many of them are identical.
    """
    if not 0 < fmr < 1:
        raise DataError(f"fmr: got {fmr}, allowed are values between 0 and 1")
    rows = np.arange(len(features)) if len(features) <= images else np.arange(images) * len(features) // images
    unit, own = normalized(features[rows]), labels[rows]
    counts = np.zeros(BINS, np.int64)
    for left in _slices(len(unit), block):
        for right in _slices(len(unit), block):
            if right.start >= left.start:
                counts += _impostor_counts(unit, own, left=left, right=right)
    pairs, allowed = int(counts.sum()), fmr * int(counts.sum())
    if allowed < EXPECTED_MATCHES:
        lowest = f"at least {EXPECTED_MATCHES / pairs:.1e}" if pairs else "nothing, there is one identity only"
        raise DataError(f"fmr: got {fmr}, {pairs} non-mated pairs resolve {lowest}; add real faces or raise fmr")
    if counts[-1] > allowed:
        raise DataError(f"fmr: got {fmr}, more non-mated pairs are identical; the same faces are in several identities")
    at_or_above = counts[::-1].cumsum()[::-1]
    return float(np.flatnonzero(at_or_above <= allowed)[0] * 2 / BINS - 1)


def _impostor_counts(unit: np.ndarray, labels: np.ndarray, *, left: slice, right: slice) -> np.ndarray:
    """Histogram of the cosines of non-mated pairs between two blocks; within one block each pair counts once."""
    scores = unit[left] @ unit[right].T
    counted = labels[left, None] != labels[None, right]
    if left == right:
        counted = np.triu(counted, 1)
    bins = ((scores[counted].astype(np.float64) + 1) * (BINS / 2)).astype(np.int64)
    return np.bincount(bins.clip(0, BINS - 1), minlength=BINS)


def _hashes(rgb: np.ndarray) -> tuple[str, np.ndarray]:
    bits = np.unpackbits(np.frombuffer(perceptual_hash(rgb).to_bytes(HASH_BITS // 8, "big"), np.uint8))
    return pixel_hash(rgb), bits.astype(np.int8) * 2 - 1


def _slices(count: int, block: int) -> Iterator[slice]:
    return (slice(first, min(first + block, count)) for first in range(0, count, block))
