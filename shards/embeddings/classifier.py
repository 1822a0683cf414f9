"""The classifier of a recognition net as identity centers: one weight row per person it was trained on.

The paper takes these as the centers of identities (section 3.1). The file is safetensors with the tensor `weight`
(C, D) float32 and, in its metadata, `classes`: the names of the C people as a JSON list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from shards.errors import DataError, parsing, shown


def classifier_bytes(weight: np.ndarray, *, classes: Sequence[str]) -> bytes:
    """The file of a classifier: `weight` (C, D), one row per class."""
    assert weight.ndim == 2
    assert len(weight) == len(classes)
    metadata = {"classes": json.dumps(list(classes), ensure_ascii=False)}
    return save({"weight": np.ascontiguousarray(weight, np.float32)}, metadata=metadata)


def classifier_centers(path: Path, *, classes: Sequence[str], width: int) -> np.ndarray:
    """The (C, D) float32 centers of unit length of these identities, in their order.

    Raises:
        DataError: the file is not a classifier, has another width than the embeddings, has no row for an identity, or
            has a row that is zero or not finite.
    """
    weight, names = _read(path)
    _check_width(weight, width=width, path=path)
    rows = {name: row for row, name in enumerate(names)}
    missing = [name for name in classes if name not in rows]
    if missing:
        raise DataError(
            f"{path}: has no weight row for {len(missing)} of {len(classes)} identities "
            f"(first: {shown(missing[0])!r}); the classifier must be trained on this set"
        )
    chosen = weight[[rows[name] for name in classes]].astype(np.float32)
    lengths = np.linalg.norm(chosen, axis=1, keepdims=True)
    bad = ~(np.isfinite(lengths) & (lengths > 0))[:, 0]
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{path}: the row of {shown(classes[row])!r} has norm {lengths[row, 0]}, expected above zero")
    unit: np.ndarray = chosen / lengths
    return unit


def check_classifier(path: Path, *, width: int | None) -> None:
    """Refuse a file that is no classifier, or one of embeddings of another width; None: not known.

    Raises:
        DataError: it is.
    """
    _check_width(_read(path)[0], width=width, path=path)


def _check_width(weight: np.ndarray, *, width: int | None, path: Path) -> None:
    if width not in (None, weight.shape[1]):
        raise DataError(f"{path}: weight rows have {weight.shape[1]} values, the embeddings {width}; same net?")


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    with parsing(path, kind="a classifier with `weight` and `classes`"), safe_open(path, framework="numpy") as file:
        weight, classes = file.get_tensor("weight"), json.loads((file.metadata() or {})["classes"])
    if weight.dtype.kind != "f":
        raise DataError(f"{path}: weight is {weight.dtype}, expected real numbers; give the file of train-recognition")
    if weight.ndim != 2 or not isinstance(classes, list) or len(classes) != len(weight):
        raise DataError(f"{path}: weight is {weight.shape}, classes do not match it")
    return weight, [str(name) for name in classes]
