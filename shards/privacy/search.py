"""What is nearest to a synthetic set: its images and its people against everything real, a file at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from shards.embeddings.centers import normalized
from shards.embeddings.nearest import Nearest
from shards.errors import DataError
from shards.labels import classes_of
from shards.privacy.fingerprints import References, Vectors, hashes_of

# Bits of 256 in which two perceptual hashes of one picture may differ. On the aligned crops of LFW, JPEG quality 50,
# rescaling from 64 or 32 pixels and noise stay within 24; the nearest image of another person is above 32 but for
# six pairs, which are one picture under two names. 64 bits with the usual limit of 4 confuse 6% of these images.
NEAR_BITS = 24

HASH_BITS = 256

NEAR_COSINE = 1 - 2 * NEAR_BITS / HASH_BITS  # of hashes whose bits are -1 and 1

DIGITS = 6  # of a cosine in the findings

COLUMNS = ("names", "face", "face_cosine", "center", "center_cosine")


class Reason(StrEnum):
    """Why a synthetic image counts as a leak; in order of strictness."""

    EXACT_PIXELS = "exact_pixels"
    EXACT_MIRRORED = "exact_mirrored"
    NEAR_PIXELS = "near_pixels"
    NEAR_MIRRORED = "near_mirrored"
    TOO_SIMILAR = "too_similar"  # to a real face
    TOO_SIMILAR_TO_CENTER = "too_similar_to_center"  # of a real person
    IDENTITY_TOO_SIMILAR = "identity_too_similar"  # the mean of its identity, to a real face
    IDENTITY_TOO_SIMILAR_TO_CENTER = "identity_too_similar_to_center"


# Those of which the image itself is not the cause.
OF_THE_IDENTITY = frozenset({Reason.IDENTITY_TOO_SIMILAR, Reason.IDENTITY_TOO_SIMILAR_TO_CENTER})


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One synthetic image and what it is too close to: a real image's key, or the identity whose center it is.

    `cosine` is None for pixel reasons; for identity reasons it is that of the identity's mean.
    """

    key: str
    reason: Reason
    real: str
    cosine: float | None = None

    @staticmethod
    def from_record(value: Mapping[str, Any]) -> Leak:
        """From what `asdict` gave, through JSON."""
        return Leak(**{**value, "reason": Reason(value["reason"])})


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """A set under audit, or a control group.

    Attributes:
        keys, identities: N names each.
        features: (N, D) float32 of unit length, as those of the references.
        exact, exact_mirrored, near, near_mirrored: (N, 32) uint8, hashes of the images and of their mirror images.
    """

    keys: list[str]
    identities: list[str]
    features: np.ndarray
    exact: np.ndarray
    exact_mirrored: np.ndarray
    near: np.ndarray
    near_mirrored: np.ndarray

    @staticmethod
    def of(keys: list[str], *, identities: list[str], features: np.ndarray, images: Iterable[np.ndarray]) -> Suspects:
        """From (H, W, 3) uint8 images, gone through once; at least one."""
        both = (side for rgb in images for side in (rgb, np.ascontiguousarray(rgb[:, ::-1])))
        hashes = hashes_of(both)
        (exact, exact_mirrored), (near, near_mirrored) = ((rows[::2], rows[1::2]) for rows in hashes)
        return Suspects(
            keys=keys,
            identities=identities,
            features=features,
            exact=exact,
            exact_mirrored=exact_mirrored,
            near=near,
            near_mirrored=near_mirrored,
        )


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """For each of some names (images, or identities by their mean) the nearest real face and the nearest center."""

    names: list[str]
    face: list[str]
    face_cosine: list[float]
    center: list[str]
    center_cosine: list[float]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What lies nearest to one tar's images and identities, without judgment.

    Attributes:
        identities: of each image.
        pixels: leaks that need no threshold.
        probes: of each probe the cosine to the nearest image of the tar.
        references: real images compared with.
    """

    images: Neighbors
    people: Neighbors
    identities: list[str]
    pixels: list[Leak]
    probes: list[float]
    references: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Findings:
        pixels = [Leak.from_record(leak) for leak in value["pixels"]]
        tables = {name: Neighbors(**value[name]) for name in ("images", "people")}
        return Findings(**{**value, **tables, "pixels": pixels})


def search(
    suspects: Suspects,
    references: Iterable[References],
    *,
    centers: Vectors,
    probes: np.ndarray,
    on_part: Callable[[], None] = lambda: None,
) -> Findings:
    """Find what is nearest; memory is that of the suspects, of one part of the references, and 64 MB.

    Args:
        centers: of the real identities.
        probes: (P, D) unit embeddings of real faces whose nearest suspect is wanted; P may be 0.
        on_part: called after each part of the references; may raise to stop.
    """
    names, means = _means(suspects.identities, suspects.features)
    faces = Nearest(np.concatenate([suspects.features, means]))
    hashes = Nearest(_signs(np.concatenate([suspects.near, suspects.near_mirrored])))
    exact = _Exact(suspects)
    count = 0
    for part in references:
        faces.show(part.features, part.keys)
        hashes.show(_signs(part.near), part.keys)
        exact.show(part)
        count += len(part.keys)
        on_part()
    people = Nearest(np.concatenate([suspects.features, means]))
    people.show(centers.features, centers.keys)
    found = Nearest(probes)
    found.show(suspects.features, suspects.keys)
    rows = len(suspects.keys)
    return Findings(
        images=_neighbors(suspects.keys, faces, people, rows=slice(0, rows)),
        people=_neighbors(names, faces, people, rows=slice(rows, None)),
        identities=suspects.identities,
        pixels=[*exact.leaks, *_near_leaks(suspects, hashes)],
        probes=_rounded(found.cosine),
        references=count,
    )


def search_people(
    identities: Sequence[str],
    features: np.ndarray,
    references: Iterable[Vectors],
    *,
    centers: Vectors,
    on_part: Callable[[], None] = lambda: None,
) -> Neighbors:
    """Of (N, D) features and their N identities what is nearest to the means alone, as `search` finds it."""
    names, means = _means(identities, features)
    faces, people = Nearest(means), Nearest(means)
    for part in references:
        faces.show(part.features, part.keys)
        on_part()
    people.show(centers.features, centers.keys)
    return _neighbors(names, faces, people, rows=slice(None))


def search_strangers(
    group: Vectors,
    references: Iterable[Vectors],
    *,
    centers: Vectors,
    on_part: Callable[[], None] = lambda: None,
) -> Findings:
    """What is nearest to a control group of real faces, as `search` finds it, among the faces of everybody else.

    An identity's own faces and center do not count, so training people can be a control group for the others.
    """
    names, means = _means(group.identities, group.features)
    queries, own = np.concatenate([group.features, means]), [*group.identities, *names]
    faces, people = Nearest(queries, strangers_to=own), Nearest(queries, strangers_to=own)
    count = 0
    for part in references:
        faces.show(part.features, part.keys, identities=part.identities)
        count += len(part.keys)
        on_part()
    people.show(centers.features, centers.keys, identities=centers.identities)
    rows = len(group.keys)
    return Findings(
        images=_neighbors(group.keys, faces, people, rows=slice(0, rows)),
        people=_neighbors(names, faces, people, rows=slice(rows, None)),
        identities=group.identities,
        pixels=[],
        probes=[],
        references=count,
    )


def _means(identities: Sequence[str], features: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The identities' names, and the unit mean of each."""
    names, labels = classes_of(identities)
    means = np.zeros((len(names), features.shape[1]))
    np.add.at(means, labels, features)
    return names, normalized(means)


def _neighbors(names: list[str], faces: Nearest, centers: Nearest, *, rows: slice) -> Neighbors:
    return Neighbors(
        names=names,
        face=faces.name[rows].tolist(),
        face_cosine=_rounded(faces.cosine[rows]),
        center=centers.name[rows].tolist(),
        center_cosine=_rounded(centers.cosine[rows]),
    )


def _rounded(cosines: np.ndarray) -> list[float]:
    return [round(float(value), DIGITS) for value in cosines.clip(-1, 1)]


class _Exact:
    """Suspects whose pixels are those of a real image, mirrored or not."""

    def __init__(self, suspects: Suspects) -> None:
        self.leaks: list[Leak] = []
        self._wanted: dict[bytes, list[tuple[str, Reason]]] = {}
        for reason, hashes in (
            (Reason.EXACT_PIXELS, suspects.exact),
            (Reason.EXACT_MIRRORED, suspects.exact_mirrored),
        ):
            for key, row in zip(suspects.keys, hashes, strict=True):
                self._wanted.setdefault(row.tobytes(), []).append((key, reason))

    def show(self, part: References) -> None:
        for real, row in zip(part.keys, part.exact, strict=True):
            # Once found is enough: a leak is not worse for being one of two equal photos.
            for key, reason in self._wanted.pop(row.tobytes(), ()):
                self.leaks.append(Leak(key=key, reason=reason, real=real))


def _near_leaks(suspects: Suspects, hashes: Nearest) -> list[Leak]:
    count = len(suspects.keys)
    reasons = [Reason.NEAR_PIXELS] * count + [Reason.NEAR_MIRRORED] * count
    rows = np.flatnonzero(hashes.cosine >= NEAR_COSINE - 1e-6)
    return [Leak(key=suspects.keys[row % count], reason=reasons[row], real=hashes.name[row]) for row in rows.tolist()]


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Hashes (N, 32) uint8 as unit vectors (N, 256): a cosine of 1 - 2 b / 256 means b differing bits."""
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)
    return (bits * 2 - 1) / np.float32(HASH_BITS**0.5)


def joined(findings: Iterable[Findings]) -> Findings:
    """Findings of several tars of one group as one; probes keep their nearest.

    Raises:
        DataError: there are none, or they were compared with different sets.
    """
    parts = list(findings)
    if len({part.references for part in parts}) != 1:
        raise DataError("audit: findings about different real sets, or none; run the audit again")
    tables = {
        name: Neighbors(
            **{column: [value for part in parts for value in vars(getattr(part, name))[column]] for column in COLUMNS}
        )
        for name in ("images", "people")
    }
    return Findings(
        **tables,
        identities=[identity for part in parts for identity in part.identities],
        pixels=[leak for part in parts for leak in part.pixels],
        probes=np.max([part.probes for part in parts], axis=0).tolist() if parts[0].probes else [],
        references=parts[0].references,
    )
