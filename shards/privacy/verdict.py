"""Does a synthetic set leak real faces? From what is nearest to a verdict.

What is nearest was found for the set and for a control group of real people (`shards.findings`): some whom nobody
trained on, or the training people, each among the others. The control group says from where on near is too near.
The embedder of an audit should not be the one that guided the set, or it judges its own work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shards.errors import DataError
from shards.privacy.search import DIGITS, Findings, Leak, Neighbors, Reason


def worst_leaks(leaks: Sequence[Leak]) -> list[Leak]:
    """One leak per synthetic image: the strictest reason first, then by falling cosine."""
    strictness = list(Reason)
    worst: dict[str, Leak] = {}
    for leak in sorted(leaks, key=lambda leak: (strictness.index(leak.reason), -(leak.cosine or 0.0), leak.key)):
        worst.setdefault(leak.key, leak)
    return list(worst.values())


EXPECTED_ALARMS = 5  # images of the control group behind a threshold; fewer, and it would hang on single faces


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From which cosine on an image, or the mean of an identity, is too close to a real face, or to a center.

    Each of the four comparisons has its own: means lie closer to everything than images do.
    """

    image_to_face: float
    image_to_center: float
    identity_to_face: float
    identity_to_center: float
    basis: str  # where they come from, in words

    @staticmethod
    def from_control(control: Findings, *, rate: float, people: str) -> Thresholds:
        """So that at most `rate` of the control group's images would be dropped, for any reason of likeness.

        This counts what an audit does, the nearest of all references by four comparisons; a rate of false matches
        between pairs would say little about it, the more so the more references there are.

        Args:
            people: who they are, for the basis.

        Raises:
            DataError: `rate` is not within (0, 1), or the control group is too small to resolve it.
        """
        images = len(control.images.names)
        if not 0 < rate < 1:
            raise DataError(f"rate: got {rate}, allowed are values between 0 and 1")
        allowed = int(rate * images)
        if allowed < EXPECTED_ALARMS:
            lowest = EXPECTED_ALARMS / images
            raise DataError(
                f"audit.false_alarms: got {rate}, a control group of {images} faces resolves at least {lowest:.1e}; "
                "raise it, or hold out more people (shard.held_out_identities)"
            )
        count = len(set(control.identities))
        basis = f"at most {rate:.1%} of {images:,} faces of {count:,} {people} would count as a leak"
        for each in range(allowed, -1, -1):
            thresholds = _reached_by(control, each, basis=basis)
            if len({leak.key for leak in leaks_of(control, thresholds)}) <= allowed:
                break
        return thresholds


def _reached_by(control: Findings, count: int, *, basis: str) -> Thresholds:
    """Thresholds that `count` images reach in each comparison, and the same share of the people."""
    images, people = control.images, control.people
    few = count * len(people.names) // len(images.names)
    return Thresholds(
        image_to_face=_above(images.face_cosine, allowed=count),
        image_to_center=_above(images.center_cosine, allowed=count),
        identity_to_face=_above(people.face_cosine, allowed=few),
        identity_to_center=_above(people.center_cosine, allowed=few),
        basis=basis,
    )


def _above(cosines: Sequence[float], *, allowed: int) -> float:
    """The lowest cosine, in the findings' digits, that at most `allowed` of the values reach."""
    return round(float(np.sort(cosines)[max(0, len(cosines) - 1 - allowed)]) + 10**-DIGITS, DIGITS)


def leaks_of(findings: Findings, thresholds: Thresholds) -> list[Leak]:
    """Every image that must not be published, with each of its reasons."""
    images, leaks = findings.images, list(findings.pixels)
    for reason, real, cosines, threshold in (
        (Reason.TOO_SIMILAR, images.face, images.face_cosine, thresholds.image_to_face),
        (Reason.TOO_SIMILAR_TO_CENTER, images.center, images.center_cosine, thresholds.image_to_center),
    ):
        for row in np.flatnonzero(np.asarray(cosines) >= threshold).tolist():
            leaks.append(Leak(key=images.names[row], reason=reason, real=real[row], cosine=cosines[row]))
    own = dict(zip(images.names, findings.identities, strict=True))
    return [*leaks, *leaks_of_people(findings.people, own, thresholds)]


def leaks_of_people(people: Neighbors, own: Mapping[str, str], thresholds: Thresholds) -> list[Leak]:
    """Every image whose identity is too close by its mean; `own` is the identity of each image's key."""
    leaks = []
    for reason, real, cosines, threshold in (
        (Reason.IDENTITY_TOO_SIMILAR, people.face, people.face_cosine, thresholds.identity_to_face),
        (Reason.IDENTITY_TOO_SIMILAR_TO_CENTER, people.center, people.center_cosine, thresholds.identity_to_center),
    ):
        close = {people.names[row]: row for row in np.flatnonzero(np.asarray(cosines) >= threshold).tolist()}
        for key, identity in own.items() if close else ():
            if identity in close:
                row = close[identity]
                leaks.append(Leak(key=key, reason=reason, real=real[row], cosine=cosines[row]))
    return leaks


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of an audit.

    Attributes:
        passed: whether few enough images leak.
        images, references: synthetic images judged, real images they were compared with.
        embedder, independent: the net that judged, and whether it is another one than guided the set.
        thresholds: cosines at or above them count as the same person.
        judged: sha256 by name of the tars judged; the verdict holds for these bytes only.
        leaks: at most one per image and reason.
        refilled: keys of leaked images in whose place others were made, which do not leak.
        figures: what was measured beside: leak rate by what was asked and at given false match rates, membership, overlap.
    """

    passed: bool
    images: int
    references: int
    embedder: str
    independent: bool
    thresholds: Thresholds
    judged: Mapping[str, str]
    leaks: tuple[Leak, ...]
    figures: Mapping[str, Any]
    refilled: tuple[str, ...] = ()

    @property
    def leaked(self) -> set[str]:
        """Keys of the images that must not be published."""
        return {leak.key for leak in self.leaks}

    @property
    def dropped(self) -> list[str]:
        """Keys that are not published, sorted: those leaked for which there is no other image."""
        return sorted(self.leaked.difference(self.refilled))

    @property
    def counts(self) -> dict[str, int]:
        """Images by reason, an image under each of its reasons."""
        found = [leak.reason for leak in self.leaks]
        return {reason.value: found.count(reason) for reason in Reason}

    def record(self) -> dict[str, Any]:
        """The verdict as JSON-ready values."""
        value = asdict(self)
        return value | {"leaks": [asdict(leak) for leak in self.leaks], "counts": self.counts, "dropped": self.dropped}

    def public_record(self) -> dict[str, Any]:
        """The verdict as it may leave the cluster: no key or name of a real face or person is in it."""
        value = self.record()
        del value["leaks"]
        figures = {name: found for name, found in self.figures.items() if name != "closest"}
        return value | {"figures": figures}

    @staticmethod
    def from_record(value: Mapping[str, Any]) -> Verdict:
        plain = {name: value[name] for name in Verdict.__dataclass_fields__}
        typed = {
            "leaks": tuple(map(Leak.from_record, value["leaks"])),
            "refilled": tuple(value["refilled"]),
            "thresholds": Thresholds(**value["thresholds"]),
            "figures": _upgraded(value["figures"]),
        }
        return Verdict(**plain | typed)


def _upgraded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Leak rates by every key of `asked`; older verdicts have rates by m only, under other names."""
    found = dict(figures)
    if "leak_rate_by_m" in found:
        found["leak_rate_by"] = {"m": found.pop("leak_rate_by_m")}
    if "by_false_match_rate" in found:
        found["by_false_match_rate"] = [_upgraded_row(row) for row in found["by_false_match_rate"]]
    return found


def _upgraded_row(row: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(row)
    if "rate_by_m" in found:
        found["rate_by"] = {"m": found.pop("rate_by_m")}
    return found


def outcomes(leaks: Sequence[Leak], *, images: int) -> dict[str, int]:
    """Each image once: under the first, that is the strictest, reason it is dropped for, or as clear."""
    strictness = list(Reason)
    first: dict[str, Reason] = {}
    for leak in sorted(leaks, key=lambda leak: strictness.index(leak.reason)):
        first.setdefault(leak.key, leak.reason)
    found = list(first.values())
    counts = {reason.value: found.count(reason) for reason in Reason if reason in found}
    return {"clear": images - len(first), **counts}


def membership(trained: np.ndarray, kept_back: np.ndarray) -> dict[str, float]:
    """Do the photos that were trained on lie closer to the set than others of the same people?

    Args:
        trained, kept_back: (N,) and (M,) cosines of such photos to their nearest synthetic image.

    Returns:
        `auc`: the chance that a trained one is closer (0.5: no trace of memorization), and the `standard_error` it
        would have if there were none (Mann and Whitney).
    """
    order = np.sort(kept_back)
    below, above = np.searchsorted(order, trained, "left"), np.searchsorted(order, trained, "right")
    n, m = len(trained), len(kept_back)
    return {
        "auc": float((below + above).mean() / (2 * m)),
        "standard_error": float(((n + m + 1) / (12 * n * m)) ** 0.5),
        "trained": n,
        "kept_back": m,
    }
