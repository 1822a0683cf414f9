"""HDF5 files of embeddings: built in memory with reproducible bytes, and checked when read."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from shards.embeddings.hdf5_structure import check_structure
from shards.errors import DataError, parsing, reason_of, shown

FORMAT = "cemiface-embeddings-1"

MAX_TEXT = 4096  # bytes of an attribute


def memory_file() -> h5py.File:
    """A file in memory; `file_image` returns its bytes."""
    return h5py.File("memory.h5", "w", driver="core", backing_store=False)


def file_image(file: h5py.File) -> bytes:
    """The bytes the file would have on disk."""
    file.flush()
    image: bytes = file.id.get_file_image()
    return image


def write_names(file: h5py.File, *, keys: list[str], identities: list[str], embedder: str) -> None:
    """Write what every file has: format, embedder, keys and identities."""
    file.attrs["format"] = np.bytes_(FORMAT)
    file.attrs["embedder"] = np.bytes_(embedder.encode())
    for name, texts in (("keys", keys), ("identities", identities)):
        encoded = [text.encode() for text in texts]
        width = max(map(len, encoded))  # fixed width: strings on HDF5's heap cost a seek each
        data = np.array(encoded, dtype=h5py.string_dtype("utf-8", width))
        file.create_dataset(name, data=data, track_times=False)


def create_virtual(file: h5py.File, name: str, *, paths: Sequence[Path], ends: np.ndarray, width: int) -> None:
    """A dataset that maps the rows of all parts.

    Low-level calls, because h5py's own virtual datasets always store the current time. Rows of an unreadable part
    read as NaN, which `check_rows` refuses; HDF5's default is zeros.
    """
    rows = int(ends[-1])
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    properties.set_fill_value(np.array(np.nan, np.float32))
    for path, end, start in zip(paths, ends, [0, *ends[:-1]], strict=True):
        count = int(end - start)
        target = h5py.h5s.create_simple((rows, width))
        target.select_hyperslab((int(start), 0), (count, width))
        properties.set_virtual(target, path.name.encode(), name.encode(), h5py.h5s.create_simple((count, width)))
    space = h5py.h5s.create_simple((rows, width))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, properties)


def mapped_parts(file: h5py.File, name: str, *, folder: Path) -> list[np.ndarray]:
    """The parts that a virtual dataset joins, in order, each mapped into memory from its own file.

    Raises:
        DataError: a part is missing, lies outside `folder`, is a link, or has another number of rows than when it was
            joined.
    """
    dataset = dataset_of(file, name, virtual=True)
    with parsing(file.filename, kind=f"a file with a readable {name}"):
        sources = dataset.virtual_sources() if dataset.is_virtual else []
        bounds = [source.vspace.get_select_bounds() for source in sources]
    if not sources or dataset.ndim != 2:
        raise DataError(f"{file.filename}: {name} joins no files; is it the file of one tar?")
    parts = []
    for source, (first, last) in zip(sources, bounds, strict=True):
        path = folder / source.file_name
        if path.name != source.file_name or path.is_symlink() or not path.is_file() or source.dset_name != name:
            raise DataError(f"{file.filename}: its part {source.file_name!r} is not in the same folder")
        shape = (last[0] - first[0] + 1, dataset.shape[1])
        parts.append(_mapped(path, name, shape=shape, joined=file.filename))
    if sum(map(len, parts)) != len(dataset):
        raise DataError(f"{file.filename}: {name} is {dataset.shape}, its parts do not add up to that")
    return parts


def _mapped(path: Path, name: str, *, shape: tuple[int, ...], joined: str) -> np.ndarray:
    """One contiguous float32 dataset, mapped read-only."""
    with open_file(path) as file:
        dataset = dataset_of(file, name)
        offset = dataset.id.get_offset()
        if dataset.shape != shape or dataset.dtype != np.float32 or offset is None:
            raise DataError(f"{joined}: {name} cannot be read, was a file replaced? ({path.name} is {dataset.shape})")
    return np.memmap(path, np.float32, "r", offset=offset, shape=shape)


class _Content(io.BytesIO):
    """The content of a file that was read already; HDF5's errors name its path."""

    def __init__(self, data: bytes, *, path: Path) -> None:
        super().__init__(data)
        self._path = path

    def __repr__(self) -> str:
        return str(self._path)


def open_file(path: Path, *, data: bytes | None = None) -> h5py.File:
    """Open for reading; raises DataError if the file is not a regular one, or has another format.

    Args:
        data: the content of the file, where it was read already; the file is not opened then.
    """
    if data is None and path.exists() and not path.is_file():
        raise DataError(f"{path}: not a readable HDF5 file: it is not a regular file")
    if data is not None or (path.exists() and path.stat().st_size):
        check_structure(path, data=data)
    try:
        source = path if data is None else _Content(data, path=path)
        file = h5py.File(source, "r", locking=False)  # published files never change, and Lustre may have no locks
    except Exception as error:
        raise DataError(f"{path}: not a readable HDF5 file: {shown(str(error), limit=200)}") from None
    try:
        found = attribute_of(file, "format")
        if found != FORMAT.encode():
            raise DataError(f"{path}: format {shown(repr(found))}, expected {FORMAT}")
    except DataError:
        file.close()
        raise
    return file


def embedder_of(file: h5py.File) -> str:
    """Name of the network that made the features."""
    with parsing(file.filename, kind="a file that names its embedder"):
        return (attribute_of(file, "embedder") or b"").decode()


def attribute_of(file: h5py.File, name: str) -> bytes | None:
    """A text of fixed length; None if there is no such attribute, or one of another type or above `MAX_TEXT`."""
    with parsing(file.filename, kind="a readable HDF5 file"):
        if name not in file.attrs:
            return None
        attribute = h5py.h5a.open(file.id, name.encode())
        kind, space = attribute.get_type(), attribute.get_space()
        fixed = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
        if not fixed or kind.get_size() > MAX_TEXT or space.get_simple_extent_type() != h5py.h5s.SCALAR:
            return None
        return bytes(file.attrs[name])


def dataset_of(file: h5py.File, name: str, *, virtual: bool = False) -> h5py.Dataset:
    """A dataset of this file, whose values are in it: the one place that opens datasets.

    HDF5 files can name other files, as the target of a link, as the storage of a dataset, or as the parts of a virtual
    one; with `virtual` the last is allowed, and the caller checks the parts. Compressed values, and values that were
    never written, could be of any size.

    Raises:
        DataError: it is missing or damaged, or its values are elsewhere, compressed, or not written.
    """
    with parsing(file.filename, kind=f"a file with a readable {name}"):
        link = file.get(name, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise DataError(f"{file.filename}: {name} is a link; expected a dataset in this file, make it again")
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{file.filename}: dataset {name!r} is missing")
        problem = _problem(dataset, virtual=virtual)
    if problem is not None:
        raise DataError(f"{file.filename}: {name} {problem}; expected plain values in this file, make it again")
    return dataset


def _problem(dataset: h5py.Dataset, *, virtual: bool) -> str | None:
    """Why the values of a dataset are not simply in its file; None if they are."""
    properties, size = dataset.id.get_create_plist(), dataset.dtype.itemsize * math.prod(dataset.shape or (0,))
    if properties.get_external_count():
        return "is stored in another file"
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        return None if virtual else "joins other files"
    if properties.get_layout() == h5py.h5d.CHUNKED:
        return "is stored in chunks, which may be compressed"
    offset = dataset.id.get_offset()  # None for the compact layout, which has its values in the header
    held = os.path.getsize(dataset.file.filename)
    if (offset is None and dataset.id.get_storage_size() != size) or (offset or 0) + size > held:
        return f"has {dataset.shape} values of {dataset.dtype}, which are not in the file"
    return None


def names_of(file: h5py.File, name: str) -> list[str]:
    """A dataset of strings."""
    dataset = dataset_of(file, name)
    if dataset.ndim != 1 or dataset.dtype.kind != "S":
        raise DataError(f"{file.filename}: {name} is {dataset.dtype} {dataset.shape}, expected a list of names")
    with parsing(file.filename, kind=f"a file with readable {name}"):
        return [bytes(value).decode() for value in dataset[()]]


def floats_of(file: h5py.File, name: str, *, ndim: int) -> np.ndarray:
    """A float32 array with `ndim` axes."""
    dataset = dataset_of(file, name)
    if dataset.ndim != ndim or dataset.dtype != np.float32:
        raise DataError(f"{file.filename}: {name} is {dataset.dtype} {dataset.shape}, expected float32, {ndim} axes")
    try:
        values: np.ndarray = dataset[()]
    except Exception as error:  # HDF5's message names neither file nor dataset
        raise DataError(f"{file.filename}: {name} cannot be read, was a file replaced? ({reason_of(error)})") from None
    return values
