"""Fingerprints of real faces: an embedding and two pixel hashes per image, and a center per identity.

There is one HDF5 file per tar, so an audit can read millions of faces one file at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from shards.embeddings import hdf5
from shards.embeddings.centers import directions, normalized
from shards.errors import DataError
from shards.images.hashes import perceptual_hash, pixel_hash
from shards.privacy.copies.pictures import SIDE
from shards.privacy.lineage import DataSet

DATA_SET = "data_set"  # attribute of files that leave a run
HASH_BYTES = 32  # of the SHA-256 of the pixels, and of the perceptual hash


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """N named embeddings, of images or of identity centers.

    Attributes:
        keys, identities: N names each; for centers, both are the identity.
        features: (N, D) float32 of unit length.
    """

    keys: list[str]
    identities: list[str]
    features: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Fingerprints(Vectors):
    """N images with their embeddings and hashes.

    Attributes:
        exact, near: (N, 32) uint8, SHA-256 of the pixels, and perceptual hash.
        pictures: (N, 1024) uint8, small gray pictures for the search for altered copies; (0, 1024) without them.
    """

    exact: np.ndarray
    near: np.ndarray
    pictures: np.ndarray = field(default_factory=lambda: np.empty((0, SIDE * SIDE), np.uint8))


def hashes_of(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """SHA-256 and perceptual hash, (N, 32) uint8 each, of (H, W, 3) uint8 images; at least one."""
    exact, near = [], []
    for rgb in images:
        exact.append(np.frombuffer(bytes.fromhex(pixel_hash(rgb)), np.uint8))
        near.append(np.frombuffer(perceptual_hash(rgb).to_bytes(HASH_BYTES, "big"), np.uint8))
    return np.stack(exact), np.stack(near)


def mirror_invariant(features: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """(N, D) unit embeddings of images combined with their mirror images, so that a mirrored copy has the same one."""
    return normalized(normalized(features) + normalized(flipped))


def vectors_bytes(vectors: Vectors, *, embedder: str, data_set: DataSet | None = None) -> bytes:
    """The HDF5 file of vectors or fingerprints; equal ones give equal bytes.

    Args:
        embedder: of the features.
        data_set: that the images are from, if the file leaves the run.

    Raises:
        DataError: an embedding is not of unit length; NaN and zero rows are not either.
    """
    _check(vectors, where="vectors")
    with hdf5.memory_file() as file:
        hdf5.write_names(file, keys=vectors.keys, identities=vectors.identities, embedder=embedder)
        if data_set is not None:
            file.attrs[DATA_SET] = np.bytes_(json.dumps(asdict(data_set), sort_keys=True).encode())
        file.create_dataset("features", data=np.asarray(vectors.features, np.float32), track_times=False)
        if isinstance(vectors, Fingerprints):
            for name in ("exact", "near"):
                file.create_dataset(name, data=getattr(vectors, name), track_times=False)
            if len(vectors.pictures):
                file.create_dataset("pictures", data=vectors.pictures, track_times=False)
        return hdf5.file_image(file)


def read_vectors(path: Path, *, data: bytes | None = None) -> Vectors:
    """Names and embeddings of a file of vectors or fingerprints; `data` is its content if it was read already.

    Raises:
        DataError: not our format, or a row is not of unit length.
    """
    with hdf5.open_file(path, data=data) as file:
        vectors = Vectors(
            keys=hdf5.names_of(file, "keys"),
            identities=hdf5.names_of(file, "identities"),
            features=hdf5.floats_of(file, "features", ndim=2),
        )
    _check(vectors, where=str(path))
    return vectors


def data_set_of(path: Path) -> DataSet:
    """The data set of a fingerprint file that came from another run.

    Raises:
        DataError: not our format, or the file does not name its data set.
    """
    with hdf5.open_file(path) as file:
        found = hdf5.attribute_of(file, DATA_SET)
    try:
        return DataSet.from_record(json.loads(found or b""))
    except (TypeError, ValueError, RecursionError):
        raise DataError(f"{path}: names no data set; export it with `cemiface export --fingerprints`") from None


def embedder_and_width(path: Path, *, data: bytes | None = None) -> tuple[str, int]:
    """The recognition net that made the embeddings of a file, and their width; the embeddings are not read.

    The net is named by the first 16 digits of the sha256 of its weights.

    Raises:
        DataError: not our format.
    """
    with hdf5.open_file(path, data=data) as file:
        features = hdf5.dataset_of(file, "features")
        if features.ndim != 2:
            raise DataError(f"{path}: features have the shape {features.shape}, expected a row per image")
        return hdf5.embedder_of(file), int(features.shape[1])


def read_fingerprints(path: Path, *, data: bytes | None = None) -> Fingerprints:
    """Names, embeddings and hashes of one tar's images; `data` is the file's content if it was read already.

    Raises:
        DataError: as `read_vectors`; or the hashes are missing or have another shape.
    """
    vectors = read_vectors(path, data=data)
    with hdf5.open_file(path, data=data) as file:
        widths = {"exact": HASH_BYTES, "near": HASH_BYTES} | ({"pictures": SIDE * SIDE} if "pictures" in file else {})
        found = {name: hdf5.dataset_of(file, name)[()] for name in widths}
    for name, rows in found.items():
        if rows.shape != (len(vectors.keys), widths[name]) or rows.dtype != np.uint8:
            raise DataError(
                f"{path}: {name} is {rows.dtype} {rows.shape} for {len(vectors.keys)} images; remove it and run again"
            )
    return Fingerprints(**vars(vectors), **found)


def centers_of(parts: Iterable[Vectors]) -> Vectors:
    """The mean direction of every identity, in name order; holds one part in memory at a time.

    Raises:
        DataError: there are no parts, or the embeddings of an identity cancel out.
    """
    sums: dict[str, np.ndarray] = {}
    for part in parts:
        for identity, own in _identity_sums(part).items():
            sums[identity] = sums[identity] + own if identity in sums else own
    if not sums:
        raise DataError("centers: got no real faces; shard some first")
    names = sorted(sums)
    return Vectors(keys=names, identities=names, features=directions(np.stack([sums[name] for name in names])))


def concatenated(parts: Sequence[Vectors]) -> Vectors:
    """All rows of at least one part; copies them."""
    return Vectors(
        keys=[key for part in parts for key in part.keys],
        identities=[identity for part in parts for identity in part.identities],
        features=np.concatenate([part.features for part in parts]),
    )


def _identity_sums(part: Vectors) -> dict[str, np.ndarray]:
    """(D,) float64 sum of the embeddings of each identity."""
    names, labels = np.unique(np.asarray(part.identities, object), return_inverse=True)
    sums = np.zeros((len(names), part.features.shape[1]))
    np.add.at(sums, labels, part.features)
    return dict(zip(names.tolist(), sums, strict=True))


def _check(vectors: Vectors, *, where: str) -> None:
    count = len(vectors.keys)
    if not count or len(vectors.identities) != count or len(vectors.features) != count:
        raise DataError(
            f"{where}: {count} keys, {len(vectors.identities)} identities, {len(vectors.features)} embeddings; "
            "expected equally many, and at least one"
        )
    lengths = np.einsum("nd,nd->n", vectors.features, vectors.features)
    off = ~(np.abs(lengths - 1) < 1e-3)
    if off.any():
        row = int(off.argmax())
        raise DataError(f"{where}: row {row} ({vectors.keys[row]}) has squared length {lengths[row]}, expected 1")
