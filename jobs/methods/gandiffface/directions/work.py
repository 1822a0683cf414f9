"""The work of directions: fit, score, and store those that are worth editing along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from cemiface.errors import ModelError
from cemiface.gandiff.directions import DirectionError, Directions, fit_directions
from cemiface.weights import read_weights
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.table import W, read_table, tables
from jobs.methods.gandiffface.directions.plan import NAME, DirectionsUnit, FitDirections

ARRAYS = ("normals", "scale", "correlation", "before")


def run_rank(run: Run, rank: Rank) -> None:
    """Fit the directions on the first candidates.

    Raises:
        ModelError: no direction is good enough.
    """
    config = run.section(FitDirections)
    for work in rank.remaining(DirectionsUnit):
        w, attributes = _samples(run, limit=config.samples)
        try:
            found = fit_directions(w, {name: attributes[name] for name in config.attributes}, ridge=config.ridge)
        except DirectionError as error:
            raise ModelError(f"{NAME}.attributes: {error}") from None
        kept = _kept(found, least=config.min_correlation)
        if not kept.names:
            best = f"{found.names[int(found.correlation.argmax())]}, {found.correlation.max():.2f}"
            raise ModelError(
                f"{NAME}.min_correlation: got {config.min_correlation}, the best attribute reaches less ({best}); make "
                "more candidates, train the generator longer or lower it"
            )
        work.publish(work.unit.file, directions_bytes(kept))
        figures = {
            name: {
                "correlation": round(float(score), 4),
                "before_orthogonal": round(float(before), 4),
                "edited": edited,
            }
            for name, score, before, edited in zip(
                found.names, found.correlation, found.before, [name in kept.names for name in found.names], strict=True
            )
        }
        work.done(images=0, counts={}, figures={"samples": len(w), "attributes": figures})


def _samples(run: Run, *, limit: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """w (N, W) and the attributes of the first N <= limit candidates."""
    parts, rows = [], 0
    for path in tables(run):
        if rows >= limit:
            break
        parts.append(read_table(path, columns=(W,)))
        rows += len(parts[-1].numbers)
    w = np.concatenate([part.w for part in parts])[:limit]
    names = parts[0].attributes
    return w, {name: np.concatenate([part.attributes[name] for part in parts])[:limit] for name in names}


def _kept(found: Directions, *, least: float) -> Directions:
    """The directions whose held-out correlation is high enough; the others stay orthogonal to them."""
    rows = np.flatnonzero(found.correlation >= least)
    arrays = {name: getattr(found, name)[rows] for name in ARRAYS}
    return replace(found, names=tuple(found.names[row] for row in rows.tolist()), **arrays)


def directions_bytes(directions: Directions) -> bytes:
    """A safetensors file; its metadata holds the names."""
    arrays = {name: np.ascontiguousarray(getattr(directions, name)) for name in ARRAYS}
    return save(arrays, metadata={"attributes": json.dumps(directions.names)})


def read_directions(path: Path) -> Directions:
    """Read the file of the finished stage.

    Raises:
        ModelError: it is missing or damaged.
    """
    tensors, metadata = read_weights(path)
    try:
        names = tuple(str(name) for name in json.loads(metadata["attributes"]))
        arrays = {name: tensors[name].numpy() for name in ARRAYS}
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"{path}: damaged; delete it and run `{NAME}` again") from None
    return Directions(names=names, **arrays)
