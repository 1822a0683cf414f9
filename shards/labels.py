"""Contiguous integer labels for identity names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def classes_of(identities: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Sorted names, and the (N,) int64 position of each identity among them."""
    classes = sorted(set(identities))
    positions = {name: label for label, name in enumerate(classes)}
    return classes, np.fromiter((positions[name] for name in identities), np.int64, len(identities))
