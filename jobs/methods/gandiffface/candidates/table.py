"""The tables of candidates: HDF5 files with a row per candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.plan import NAME, CandidatesUnit
from jobs.methods.gandiffface.candidates.plan import STAGE as CANDIDATES
from shards.embeddings import hdf5
from shards.errors import DataError

W, EMBEDDING, NUMBER, ATTRIBUTE = "w", "embedding", "number", "attribute "


@dataclass(frozen=True, kw_only=True)
class CandidateTable:
    """N candidates.

    Attributes:
        numbers: (N,) int64; the latent of a candidate follows from the run's seed and its number.
        w: (N, W) float32, after truncation.
        embedding: (N, E) float32 under E_id, not normalized.
        attributes: (N,) float32 each, by name.
    """

    numbers: np.ndarray
    w: np.ndarray
    embedding: np.ndarray
    attributes: Mapping[str, np.ndarray]

    def values(self, row: int) -> dict[str, float]:
        """The attributes of one candidate."""
        return {name: float(column[row]) for name, column in self.attributes.items()}


def table_bytes(table: CandidateTable, *, generator: str) -> bytes:
    """The HDF5 file; equal tables give equal bytes."""
    keys = [f"candidate-{number:09d}" for number in table.numbers.tolist()]
    columns = {W: table.w, EMBEDDING: table.embedding}
    columns |= {ATTRIBUTE + name: table.attributes[name] for name in sorted(table.attributes)}
    with hdf5.memory_file() as file:
        hdf5.write_names(file, keys=keys, identities=keys, embedder=generator)
        for name, column in columns.items():
            file.create_dataset(name, data=np.asarray(column, np.float32), track_times=False)
        return hdf5.file_image(file)


def read_table(path: Path, *, columns: Sequence[str] = (W, EMBEDDING)) -> CandidateTable:
    """Read a table; of latents and embeddings only those in `columns`, the others are (N, 0).

    Raises:
        DataError: not our format, or columns of different lengths.
    """
    with hdf5.open_file(path) as file:
        keys = hdf5.names_of(file, "keys")
        numbers = np.array([int(key.rpartition("-")[2]) for key in keys], np.int64)
        none = np.empty((len(keys), 0), np.float32)
        wide = {name: hdf5.floats_of(file, name, ndim=2) if name in columns else none for name in (W, EMBEDDING)}
        named = [str(name) for name in file if str(name).startswith(ATTRIBUTE)]
        attributes = {name.removeprefix(ATTRIBUTE): hdf5.floats_of(file, name, ndim=1) for name in named}
    if any(len(column) != len(keys) for column in (*wide.values(), *attributes.values())):
        raise DataError(f"{path}: columns of different lengths; delete it and run `{NAME}` again")
    return CandidateTable(numbers=numbers, w=wide[W], embedding=wide[EMBEDDING], attributes=attributes)


def tables(run: Run) -> list[Path]:
    """The paths of all tables, in the order of the candidates."""
    folder = run.stage_folder(NAME)
    units = [unit for unit in run.ledger.units(CANDIDATES) if isinstance(unit, CandidatesUnit)]
    return [folder.output(unit.table) for unit in units]
