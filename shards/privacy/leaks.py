"""Leaks: synthetic images that are too close to a real face or person, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why a synthetic image counts as a leak, the strictest reason first."""

    EXACT_PIXELS = "exact_pixels"
    EXACT_MIRRORED = "exact_mirrored"
    NEAR_PIXELS = "near_pixels"
    NEAR_MIRRORED = "near_mirrored"
    ALTERED_COPY = "altered_copy"  # of a real image: cropped, rotated, covered, blurred
    TOO_SIMILAR = "too_similar"  # to a real face
    TOO_SIMILAR_TO_CENTER = "too_similar_to_center"  # of a real person
    IDENTITY_TOO_SIMILAR = "identity_too_similar"  # the mean of its identity, to a real face
    IDENTITY_TOO_SIMILAR_TO_CENTER = "identity_too_similar_to_center"


# Reasons that concern all images of an identity, not one image.
IDENTITY_REASONS = frozenset({Reason.IDENTITY_TOO_SIMILAR, Reason.IDENTITY_TOO_SIMILAR_TO_CENTER})

_STRICTNESS = {reason: rank for rank, reason in enumerate(Reason)}


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One synthetic image and the real image or person it is too close to.

    Attributes:
        key: of the synthetic image.
        real: key of the real image, or name of the real identity whose center is too close.
        cosine: None for pixel reasons; for identity reasons, the cosine of the identity's mean.
    """

    key: str
    reason: Reason
    real: str
    cosine: float | None = None

    @staticmethod
    def from_record(value: Mapping[str, Any]) -> Leak:
        """The inverse of `dataclasses.asdict`, after a round trip through JSON."""
        return Leak(**{**value, "reason": Reason(value["reason"])})


def worst_leaks(leaks: Sequence[Leak]) -> list[Leak]:
    """One leak per synthetic image: the strictest reason, then the highest cosine."""
    worst: dict[str, Leak] = {}
    for leak in sorted(leaks, key=lambda leak: (_STRICTNESS[leak.reason], -(leak.cosine or 0.0), leak.key)):
        worst.setdefault(leak.key, leak)
    return list(worst.values())


def outcomes(leaks: Sequence[Leak], *, images: int) -> dict[str, int]:
    """Number of images by outcome: `clear`, or the strictest reason. The counts add up to `images`."""
    strictest = [leak.reason for leak in worst_leaks(leaks)]
    counts = {reason.value: strictest.count(reason) for reason in Reason if reason in strictest}
    return {"clear": images - len(strictest), **counts}
