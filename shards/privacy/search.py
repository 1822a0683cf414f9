"""Searches the real faces and people nearest to a synthetic set, or to a control group, one file at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from shards.embeddings.centers import normalized
from shards.embeddings.nearest import NearestSearch
from shards.labels import classes_of
from shards.privacy.copies.search import CopySearch
from shards.privacy.findings import ClosestMatches, Findings
from shards.privacy.fingerprints import Fingerprints, Vectors
from shards.privacy.pixel_copies import ExactCopies, NearCopies
from shards.privacy.synthetic_faces import SyntheticFaces

DIGITS = 6  # decimals of a cosine in the findings


def search(
    synthetic: SyntheticFaces,
    references: Iterable[Fingerprints],
    *,
    centers: Vectors,
    probes: np.ndarray,
    copies: CopySearch | None = None,
    on_part: Callable[[], None] = lambda: None,
) -> Findings:
    """Search the real faces nearest to synthetic images and to the means of their identities.

    Memory: the synthetic images' embeddings and hashes, one part of the references, and 64 MB.

    Args:
        references: fingerprints of all real faces, in parts.
        centers: of the real identities.
        probes: (P, D) unit embeddings of real faces for which the nearest synthetic image is searched; P may be 0.
        copies: search for altered copies, of the pictures of the same images.
        on_part: called after each part of the references; may raise to stop.
    """
    names, means = _identity_means(synthetic.identities, synthetic.features)
    queries = np.concatenate([synthetic.features, means])
    faces, people = NearestSearch(queries), NearestSearch(queries)
    exact, near = ExactCopies(synthetic), NearCopies(synthetic)
    count = 0
    for part in references:
        faces.add(part.features, part.keys)
        near.add(part)
        exact.add(part)
        if copies is not None:
            copies.add(part)
        count += len(part.keys)
        on_part()
    people.add(centers.features, centers.keys)
    nearest = NearestSearch(probes)
    nearest.add(synthetic.features, synthetic.keys)
    rows = len(synthetic.keys)
    return Findings(
        images=_matches(synthetic.keys, faces, people, rows=slice(0, rows)),
        people=_matches(names, faces, people, rows=slice(rows, None)),
        identities=synthetic.identities,
        pixels=[*exact.leaks, *near.leaks],
        probes=_rounded(nearest.cosine),
        references=count,
        copies=copies.scores(synthetic.keys) if copies is not None else None,
    )


def search_identities(
    identities: Sequence[str],
    features: np.ndarray,
    references: Iterable[Vectors],
    *,
    centers: Vectors,
    on_part: Callable[[], None] = lambda: None,
) -> ClosestMatches:
    """Search for the means of identities only: `Findings.people` of `search`.

    Args:
        identities: of each row of `features` (N, D).
    """
    names, means = _identity_means(identities, features)
    faces, people = NearestSearch(means), NearestSearch(means)
    for part in references:
        faces.add(part.features, part.keys)
        on_part()
    people.add(centers.features, centers.keys)
    return _matches(names, faces, people, rows=slice(None))


def search_control_group(
    group: Vectors,
    references: Iterable[Fingerprints],
    *,
    centers: Vectors,
    copies: CopySearch | None = None,
    on_part: Callable[[], None] = lambda: None,
) -> Findings:
    """Search for a control group of real faces, as `search` does for synthetic ones, without pixels and probes.

    Faces and the center of a query's own identity are left out, so training identities can be a control group too.
    """
    names, means = _identity_means(group.identities, group.features)
    queries, own = np.concatenate([group.features, means]), [*group.identities, *names]
    faces, people = NearestSearch(queries, identities=own), NearestSearch(queries, identities=own)
    count = 0
    for part in references:
        faces.add(part.features, part.keys, identities=part.identities)
        if copies is not None:
            copies.add(part)
        count += len(part.keys)
        on_part()
    people.add(centers.features, centers.keys, identities=centers.identities)
    rows = len(group.keys)
    return Findings(
        images=_matches(group.keys, faces, people, rows=slice(0, rows)),
        people=_matches(names, faces, people, rows=slice(rows, None)),
        identities=group.identities,
        pixels=[],
        probes=[],
        references=count,
        copies=copies.scores(group.keys) if copies is not None else None,
    )


def _identity_means(identities: Sequence[str], features: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Sorted names of the identities, and the mean of each, (C, D) of unit length."""
    names, labels = classes_of(identities)
    means = np.zeros((len(names), features.shape[1]))
    np.add.at(means, labels, features)
    return names, normalized(means)


def _matches(names: list[str], faces: NearestSearch, centers: NearestSearch, *, rows: slice) -> ClosestMatches:
    return ClosestMatches(
        names=names,
        face=faces.name[rows].tolist(),
        face_cosine=_rounded(faces.cosine[rows]),
        center=centers.name[rows].tolist(),
        center_cosine=_rounded(centers.cosine[rows]),
    )


def _rounded(cosines: np.ndarray) -> list[float]:
    return [round(float(value), DIGITS) for value in cosines.clip(-1, 1)]
