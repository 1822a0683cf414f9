"""The tables of measured attributes: HDF5 files with a row per real face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.frame.run import Run
from jobs.methods.gandiffface.attributes.plan import NAME, STAGE
from shards.embeddings import hdf5
from shards.errors import DataError


@dataclass(frozen=True, kw_only=True)
class FaceAttributes:
    """Attributes of N faces: their keys, and (N,) float32 by name."""

    keys: Sequence[str]
    columns: Mapping[str, np.ndarray]


def attribute_bytes(table: FaceAttributes) -> bytes:
    """The HDF5 file; equal tables give equal bytes."""
    with hdf5.memory_file() as file:
        keys = list(table.keys)
        hdf5.write_names(file, keys=keys, identities=keys, embedder=NAME)
        for name in sorted(table.columns):
            file.create_dataset(
                f"attribute {name}", data=np.asarray(table.columns[name], np.float32), track_times=False
            )
        return hdf5.file_image(file)


def read_table(path: Path) -> FaceAttributes:
    """Read one table.

    Raises:
        DataError: not our format, or columns of different lengths.
    """
    with hdf5.open_file(path) as file:
        keys = hdf5.names_of(file, "keys")
        names = [str(name) for name in file if str(name).startswith("attribute ")]
        columns = {name.removeprefix("attribute "): hdf5.floats_of(file, name, ndim=1) for name in names}
    if any(len(column) != len(keys) for column in columns.values()):
        raise DataError(f"{path}: columns of different lengths; delete it and run `{NAME}` again")
    return FaceAttributes(keys=keys, columns=columns)


def read_attributes(run: Run) -> FaceAttributes:
    """The attributes of all real training faces, in the order of the tars.

    Raises:
        DataError: a table is damaged, or tables have different attributes.
    """
    folder = run.stage_folder(NAME)
    tables = [read_table(folder.output(unit.table)) for unit in run.ledger.units(STAGE)]
    names = list(tables[0].columns)
    if any(list(table.columns) != names for table in tables):
        raise DataError(f"{folder.root}: tables of different attributes; delete them and run `{NAME}` again")
    return FaceAttributes(
        keys=[key for table in tables for key in table.keys],
        columns={name: np.concatenate([table.columns[name] for table in tables]) for name in names},
    )
