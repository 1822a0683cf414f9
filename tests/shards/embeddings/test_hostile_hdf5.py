"""HDF5 files that name other files, or whose values are not plainly in them, are refused at one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save

from shards.embeddings import hdf5
from shards.embeddings.classifier import classifier_centers
from shards.embeddings.embeddings import embeddings_bytes, merged_bytes, open_merged, read_embeddings, with_similarity
from shards.errors import DataError
from shards.privacy.fingerprints import read_vectors

from ..pictures import random_features

ROWS, WIDTH = 4, 16
NAMES = ("keys", "identities", "features", "flipped", "similarity")


def part(path: Path, seed: int = 0) -> Path:
    features = random_features(ROWS, seed=seed)
    keys = [f"{seed}-{row}" for row in range(ROWS)]
    whole = with_similarity(keys, identities=list("aabb"), features=features, flipped=-features)
    path.write_bytes(embeddings_bytes(whole, embedder="net"))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    part(tmp_path / "private" / "real.h5", seed=1)
    return part(tmp_path / "x.h5")


def external_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("private/real.h5", name)


def soft_link(file: h5py.File, name: str) -> None:
    file["elsewhere"] = h5py.ExternalLink("private/real.h5", "/")
    file[name] = h5py.SoftLink(f"/elsewhere/{name}")


def inner_link(file: h5py.File, name: str) -> None:
    file["other"] = np.ones((ROWS, WIDTH), np.float32)
    file[name] = h5py.SoftLink("/other")


def external_storage(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (ROWS, WIDTH), np.float32, external=[("private/real.h5", 0, ROWS * WIDTH * 4)])


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((ROWS, WIDTH), np.float32)
    layout[:] = h5py.VirtualSource("private/real.h5", "features", shape=(ROWS, WIDTH), dtype=np.float32)
    file.create_virtual_dataset(name, layout)


def unwritten(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (10**6, 10**6), np.float32)


def compressed(file: h5py.File, name: str) -> None:
    file.create_dataset(name, data=np.zeros((1000, 1000), np.float32), compression="gzip")


def group(file: h5py.File, name: str) -> None:
    file.create_group(name)


KINDS = [external_link, soft_link, inner_link, external_storage, virtual, unwritten, compressed, group]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", KINDS)
def test_values_that_are_not_plainly_in_the_file_are_refused(path, make, name, monkeypatch):
    with h5py.File(path, "a") as file:
        del file[name]
        make(file, name)
    for read in (read_embeddings, read_vectors) if name not in ("flipped", "similarity") else (read_embeddings,):
        with pytest.raises(DataError, match=rf"x\.h5: .*({name}|links|in another file|compressed)") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(
        hdf5, "check_structure", lambda path, data: None
    )  # the place that opens datasets refuses it, too
    with hdf5.open_file(path) as file, pytest.raises(DataError, match=name):
        hdf5.dataset_of(file, name)


def change_part(merged: Path, source: str, *, name: str = "features") -> None:
    with h5py.File(merged, "a") as file:
        del file["features"]
        layout = h5py.VirtualLayout((ROWS, WIDTH), np.float32)
        layout[:] = h5py.VirtualSource(source, name, shape=(ROWS, WIDTH), dtype=np.float32)
        file.create_virtual_dataset("features", layout)


@pytest.mark.parametrize("make", [lambda path, real: path.symlink_to(real), lambda path, real: os.mkfifo(path)])
def test_a_part_of_a_joining_file_that_is_no_file_of_its_folder_is_refused(path, make: Callable[[Path, Path], None]):
    merged = path.with_name("merged.h5")
    merged.write_bytes(merged_bytes([path]))
    real = path.parent / "private" / "real.h5"
    make(path.with_name("link.h5"), real)
    for source, name in (("link.h5", "features"), (str(real), "features"), ("x.h5", "flipped"), (".", "features")):
        change_part(merged, source, name=name)
        with pytest.raises(DataError, match=r"merged\.h5: its part .* is not in the same folder"):
            open_merged(merged)


@pytest.mark.parametrize("name", ["keys", "identities"])
def test_names_that_are_no_utf8_are_one_line(path, name):
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = np.array([b"\xff\xfe"] * ROWS)
    with pytest.raises(DataError, match=rf"x\.h5: not a file with readable {name} \('utf-8' codec"):
        read_embeddings(path)


@pytest.mark.parametrize("value", [2**40, np.zeros(1000), "text", np.array([b"a", b"b"]), np.bytes_(b"x" * 10_000)])
@pytest.mark.parametrize("name", ["format", "embedder"])
def test_an_attribute_of_another_type_is_not_taken_for_a_text(path, name, value):
    with h5py.File(path, "a") as file:
        file.attrs[name] = value
    if name == "format":
        with pytest.raises(DataError, match="format None, expected cemiface-embeddings-1"):
            hdf5.open_file(path)
    else:
        with hdf5.open_file(path) as file:
            assert hdf5.embedder_of(file) == ""


def test_a_fifo_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.h5")
    with pytest.raises(DataError, match="it is not a regular file"):
        read_embeddings(tmp_path / "x.h5")


@pytest.mark.parametrize("classes", ["[" * 100_000, "{", '"a"', "[1, 2"])
def test_nested_or_damaged_classes_of_a_classifier_are_one_line(tmp_path, classes):
    path = tmp_path / "c.safetensors"
    path.write_bytes(save({"weight": np.eye(2, dtype=np.float32)}, metadata={"classes": classes}))
    with pytest.raises(DataError, match=r"c\.safetensors: ") as caught:
        classifier_centers(path, classes=["a"], width=2)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("dtype", [np.complex64, np.int64, np.bool_])
def test_a_classifier_of_other_numbers_is_refused(tmp_path, dtype):
    path = tmp_path / "c.safetensors"
    path.write_bytes(save({"weight": np.eye(2).astype(dtype)}, metadata={"classes": '["a", "b"]'}))
    with pytest.raises(DataError, match="expected real numbers"):
        classifier_centers(path, classes=["a"], width=2)


@pytest.mark.parametrize("datasets", range(1, 12))
def test_a_heap_of_names_may_be_full_to_the_last_byte(tmp_path, datasets):
    """Eleven names of these lengths fill it; then there is no free piece, which the format writes as 1."""
    names = ["eyes", "face", "light", "male", "mouth", "pitch", "roll", "smile", "yaw", "age", "hat"][:datasets]
    with hdf5.memory_file() as file:
        hdf5.write_names(file, keys=["a"], identities=["a"], embedder="attributes")
        for name in names:
            file.create_dataset(f"attribute {name}", data=np.zeros(1, np.float32), track_times=False)
        (tmp_path / "x.h5").write_bytes(hdf5.file_image(file))
    with hdf5.open_file(tmp_path / "x.h5") as file:
        assert len(file) == datasets + 2
