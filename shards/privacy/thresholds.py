"""Similarity thresholds from a control group, and the leaks that they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shards.errors import DataError
from shards.privacy.copies.scores import CopyControl
from shards.privacy.findings import ClosestMatches, Findings
from shards.privacy.leaks import Leak, Reason
from shards.privacy.search import DIGITS

MIN_FALSE_ALARMS = 5  # images of the control group above a threshold; with fewer it would depend on single faces


NO_SPREAD = 1e-4  # between the lowest and the highest cosine of the control group: the net is constant


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Cosines from which an image, or the mean of an identity, is too close to a real face, or to a real center.

    Each of the four comparisons has its own, since means have higher cosines to everything than images do.

    Attributes:
        basis: where the thresholds come from, for people.
        copies: by family of alterations, the score from which an image counts as an altered copy; None if copies were
            not searched for.
    """

    image_to_face: float
    image_to_center: float
    identity_to_face: float
    identity_to_center: float
    basis: str
    copies: Mapping[str, float] | None = None

    @staticmethod
    def from_control(control: Findings, *, rate: float, people: str) -> Thresholds:
        """Thresholds at which at most `rate` of the control group's images would be dropped, all reasons together.

        The control group goes through what the audit does: the nearest of all references, in four comparisons. A
        false match rate of pairs would say little about that, and less the more references there are.

        Args:
            people: who is in the control group, for `basis`.

        Raises:
            DataError: `rate` is not within (0, 1), the control group is too small to resolve it, or the net cannot
                tell people apart.
        """
        images = len(control.images.names)
        if not 0 < rate < 1:
            raise DataError(f"rate: got {rate}, allowed are values between 0 and 1")
        allowed = int(rate * images)
        if allowed < MIN_FALSE_ALARMS:
            lowest = MIN_FALSE_ALARMS / images
            raise DataError(
                f"audit.false_alarms: got {rate}, a control group of {images} faces resolves at least {lowest:.1e}; "
                "raise it, or hold out more people (shard.held_out_identities)"
            )
        count = len(set(control.identities))
        basis = f"at most {rate:.1%} of {images:,} faces of {count:,} {people} would count as a leak"
        copies = CopyControl(control.copies) if control.copies else None
        same = copies.copies if copies else frozenset()
        if same:
            basis += f"; {len(same):,} of them look like copies of other people's images and do not count"
        for each in range(allowed, -1, -1):
            thresholds = _reached_by(control, each, copies=copies, basis=basis)
            if len({leak.key for leak in leaks_of(control, thresholds)} - same) <= allowed:
                break
        _check_possible(thresholds, control)
        return thresholds


def leaks_of(findings: Findings, thresholds: Thresholds) -> list[Leak]:
    """Every image that must not be published, once for each of its reasons."""
    images, leaks = findings.images, list(findings.pixels)
    for reason, real, cosines, threshold in (
        (Reason.TOO_SIMILAR, images.face, images.face_cosine, thresholds.image_to_face),
        (Reason.TOO_SIMILAR_TO_CENTER, images.center, images.center_cosine, thresholds.image_to_center),
    ):
        for row in np.flatnonzero(np.asarray(cosines) >= threshold).tolist():
            leaks.append(Leak(key=images.names[row], reason=reason, real=real[row], cosine=cosines[row]))
    leaks += _copies(findings, thresholds)
    identity_of = dict(zip(images.names, findings.identities, strict=True))
    return [*leaks, *identity_leaks(findings.people, identity_of, thresholds)]


def identity_leaks(people: ClosestMatches, identity_of: Mapping[str, str], thresholds: Thresholds) -> list[Leak]:
    """Every image whose identity's mean is too close to a real face or center.

    Args:
        identity_of: the identity of each image's key.
    """
    leaks = []
    for reason, real, cosines, threshold in (
        (Reason.IDENTITY_TOO_SIMILAR, people.face, people.face_cosine, thresholds.identity_to_face),
        (Reason.IDENTITY_TOO_SIMILAR_TO_CENTER, people.center, people.center_cosine, thresholds.identity_to_center),
    ):
        close = {people.names[row]: row for row in np.flatnonzero(np.asarray(cosines) >= threshold).tolist()}
        for key, identity in identity_of.items() if close else ():
            if identity in close:
                row = close[identity]
                leaks.append(Leak(key=key, reason=reason, real=real[row], cosine=cosines[row]))
    return leaks


def _copies(findings: Findings, thresholds: Thresholds) -> list[Leak]:
    """Every altered copy, once, with the real image of its highest score."""
    if thresholds.copies is None:
        return []
    if findings.copies is None:
        raise DataError(
            "audit: findings without a search for altered copies, which the thresholds ask for; run it again"
        )
    reached = sorted(findings.copies.reached(thresholds.copies), key=lambda found: found[2])
    best = {key: real for key, real, _ in reached}
    return [Leak(key=key, reason=Reason.ALTERED_COPY, real=real) for key, real in sorted(best.items())]


def _check_possible(thresholds: Thresholds, control: Findings) -> None:
    """Raises DataError if the net gives different people the same embedding."""
    cosines = control.images.face_cosine
    highest = max(thresholds.image_to_face, thresholds.image_to_center)
    if highest > 1 or max(cosines) - min(cosines) < NO_SPREAD:
        raise DataError(
            f"audit: got a threshold of {highest:.6f} for cosines: the audit's net gives different people the same "
            "embedding, or many images are in two identities; give another net (fingerprint.judge.weights)"
        )


def _reached_by(control: Findings, count: int, *, copies: CopyControl | None, basis: str) -> Thresholds:
    """Thresholds that at most `count` images reach in each comparison, and the same share of the identities."""
    images, people = control.images, control.people
    identities = count * len(people.names) // len(images.names)
    return Thresholds(
        image_to_face=_threshold(images.face_cosine, allowed=count),
        image_to_center=_threshold(images.center_cosine, allowed=count),
        identity_to_face=_threshold(people.face_cosine, allowed=identities),
        identity_to_center=_threshold(people.center_cosine, allowed=identities),
        basis=basis,
        copies=copies.thresholds(count) if copies else None,
    )


def _threshold(cosines: Sequence[float], *, allowed: int) -> float:
    """The lowest cosine, rounded to `DIGITS`, that at most `allowed` of the values reach."""
    highest_below = float(np.sort(cosines)[max(0, len(cosines) - 1 - allowed)])
    lowest: float = highest_below + 10**-DIGITS
    return round(lowest, DIGITS)
