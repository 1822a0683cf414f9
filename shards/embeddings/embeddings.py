"""Face embeddings as HDF5: one file per tar, and one small file that joins them.

Features are stored as the network outputs them, float32 and not normalized; cosines are computed on use. The joining
file has no copy of the features: it has virtual datasets over the files beside it, by relative name, so the folder can
be moved as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.embeddings import hdf5
from shards.embeddings.centers import blocks, directions, identity_centers, similarity_to_center, unit_sums
from shards.embeddings.classifier import classifier_centers
from shards.embeddings.mapped_rows import MappedRows, check_rows
from shards.errors import DataError
from shards.labels import classes_of


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of N images.

    Attributes:
        keys, identities: N names each.
        features, flipped: (N, D) float32 of the image and of its mirror image, not normalized.
        similarity: (N,) float32, cosine of the image to its identity's center among the rows of this file.
    """

    keys: list[str]
    identities: list[str]
    features: np.ndarray
    flipped: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True, kw_only=True)
class OpenEmbeddings:
    """Embeddings of a whole set of tars, in the order of the tars; the features stay in their files.

    Attributes:
        keys, identities, features, flipped, similarity: as `Embeddings`, of all tars.
        classes: names of the C identities, sorted.
        labels: (N,) int64, position of the row's identity in `classes`.
        centers: (C, D) float32 of unit length, see `merged_bytes`.
        embedder: name of the network.
    """

    keys: list[str]
    identities: list[str]
    features: MappedRows
    flipped: MappedRows
    similarity: np.ndarray
    classes: list[str]
    labels: np.ndarray
    centers: np.ndarray
    embedder: str

    def of(self, rows: np.ndarray, *, flips: np.ndarray) -> np.ndarray:
        """(n, D) embeddings of these images, of the mirror image where `flips` (n,) says so."""
        found = np.empty((len(rows), self.features.shape[1]), np.float32)
        found[flips], found[~flips] = self.flipped[rows[flips]], self.features[rows[~flips]]
        return found


def with_similarity(
    keys: Sequence[str], *, identities: Sequence[str], features: np.ndarray, flipped: np.ndarray
) -> Embeddings:
    """Embeddings with the similarity of each image to its identity's center computed."""
    _, labels = classes_of(identities)
    return Embeddings(
        keys=list(keys),
        identities=list(identities),
        features=features,
        flipped=flipped,
        similarity=similarity_to_center(features, labels, identity_centers(features, labels)),
    )


def embeddings_bytes(embeddings: Embeddings, *, embedder: str) -> bytes:
    """The HDF5 file of one tar; equal embeddings give equal bytes.

    Raises:
        DataError: lengths differ, or a row is NaN, infinite or of zero norm.
    """
    _check(embeddings, where="embeddings")
    with hdf5.memory_file() as file:
        hdf5.write_names(file, keys=embeddings.keys, identities=embeddings.identities, embedder=embedder)
        for name in ("features", "flipped", "similarity"):
            file.create_dataset(name, data=np.asarray(getattr(embeddings, name), np.float32), track_times=False)
        return hdf5.file_image(file)


def read_embeddings(path: Path) -> Embeddings:
    """Read and check the file of one tar.

    Raises:
        DataError: not our format, lengths differ, or a row is NaN, infinite or of zero norm (with its number).
    """
    with hdf5.open_file(path) as file:
        embeddings = Embeddings(
            keys=hdf5.names_of(file, "keys"),
            identities=hdf5.names_of(file, "identities"),
            features=hdf5.floats_of(file, "features", ndim=2),
            flipped=hdf5.floats_of(file, "flipped", ndim=2),
            similarity=hdf5.floats_of(file, "similarity", ndim=1),
        )
    _check(embeddings, where=str(path))
    return embeddings


def merged_bytes(paths: Sequence[Path], *, classifier: Path | None = None) -> bytes:
    """The joining file of `paths`, to be written into their folder. Holds one part in memory at a time.

    The center of an identity is the mean direction of its embeddings or, with a classifier file, its weight row.

    Raises:
        DataError: files of several folders, embedders or widths, a key in two files, or a damaged file.
    """
    keys, identities, embedder, width = _joined_names(paths)
    classes, labels = classes_of(identities)
    ends = np.cumsum([len(part) for part in keys])
    part_labels = np.split(labels, ends[:-1])
    if classifier is None:
        centers = directions(unit_sums((read_embeddings(path).features for path in paths), part_labels))
    else:
        centers = classifier_centers(classifier, classes=classes, width=width)
    similarity = [
        similarity_to_center(read_embeddings(path).features, part, centers)
        for path, part in zip(paths, part_labels, strict=True)
    ]
    with hdf5.memory_file() as file:
        hdf5.write_names(file, keys=[key for part in keys for key in part], identities=identities, embedder=embedder)
        file.create_dataset("similarity", data=np.concatenate(similarity), track_times=False)
        file.create_dataset("centers", data=centers, track_times=False)
        for name in ("features", "flipped"):
            hdf5.create_virtual(file, name, paths=paths, ends=ends, width=centers.shape[1])
        return hdf5.file_image(file)


def open_merged(path: Path) -> OpenEmbeddings:
    """Open a joining file and the files beside it that it names; rows of features are read on access.

    Raises:
        DataError: not our format, lengths differ, a similarity is NaN, or a part is missing or was replaced.
    """
    with hdf5.open_file(path) as file:
        identities = hdf5.names_of(file, "identities")
        classes, labels = classes_of(identities)
        merged = OpenEmbeddings(
            keys=hdf5.names_of(file, "keys"),
            identities=identities,
            features=MappedRows(hdf5.mapped_parts(file, "features", folder=path.parent), where=f"{path}: features"),
            flipped=MappedRows(hdf5.mapped_parts(file, "flipped", folder=path.parent), where=f"{path}: flipped"),
            similarity=hdf5.floats_of(file, "similarity", ndim=1),
            classes=classes,
            labels=labels,
            centers=hdf5.floats_of(file, "centers", ndim=2),
            embedder=hdf5.embedder_of(file),
        )
    _check_lengths(merged, where=str(path))
    if merged.centers.shape != (len(classes), merged.features.shape[1]):
        raise DataError(f"{path}: centers are {merged.centers.shape} for {len(classes)} identities")
    return merged


def _joined_names(paths: Sequence[Path]) -> tuple[list[list[str]], list[str], str, int]:
    """Keys of each part, identities of all, the one embedder and the one width."""
    if len({path.parent for path in paths}) != 1:
        raise DataError("merging embeddings: the files must lie in one folder, and there must be at least one")
    keys: list[list[str]] = []
    identities: list[str] = []
    made_by: set[tuple[str, int]] = set()
    for path in paths:
        with hdf5.open_file(path) as file:
            keys.append(hdf5.names_of(file, "keys"))
            identities.extend(hdf5.names_of(file, "identities"))
            made_by.add((hdf5.embedder_of(file), hdf5.dataset_of(file, "features").shape[-1]))
        if len(made_by) > 1:
            raise DataError(f"{path}: embedder or width differs from {paths[0].name}: {sorted(made_by)}")
    if len({key for part in keys for key in part}) != sum(map(len, keys)):
        raise DataError(f"{paths[0].parent}: a key appears twice; are two data sets mixed?")
    return keys, identities, *made_by.pop()


def _check(embeddings: Embeddings, *, where: str) -> None:
    _check_lengths(embeddings, where=where)
    for name in ("features", "flipped"):
        features = getattr(embeddings, name)
        for rows in blocks(len(features)):
            check_rows(features[rows], index=np.arange(rows.start, len(features)), where=f"{where}: {name}")


def _check_lengths(embeddings: Embeddings | OpenEmbeddings, *, where: str) -> None:
    rows = len(embeddings.keys)
    if rows == 0:
        raise DataError(f"{where}: no rows")
    lengths = {name: len(getattr(embeddings, name)) for name in ("identities", "features", "flipped", "similarity")}
    if set(lengths.values()) != {rows} or embeddings.features.shape != embeddings.flipped.shape:
        shapes = f"features {embeddings.features.shape}, flipped {embeddings.flipped.shape}"
        raise DataError(f"{where}: {rows} keys, but {lengths} ({shapes})")
    check_rows(embeddings.similarity[:, None] + 2, where=f"{where}: similarity")  # + 2: a cosine may be zero
