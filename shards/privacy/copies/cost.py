"""What the search for altered copies costs on this machine, measured by a short trial."""

from __future__ import annotations

import time

import numpy as np

from shards.privacy.copies.hypotheses import all_hypotheses
from shards.privacy.copies.views import CELLS

REST = 1.9  # of the time for the product of templates and references, what all other steps take; measured on one core

TRIAL = 2048  # references


def copies_seconds(images: int, *, references: int) -> float:
    """CPU seconds of one process for a search of `images` pictures among `references`."""
    templates = sum(len(one.turns) for one in all_hypotheses())
    left = np.ones((templates, CELLS), np.float32)
    right = np.ones((CELLS, TRIAL), np.float32)
    left @ right  # the first product starts the threads
    start = time.monotonic()
    left @ right
    product = (time.monotonic() - start) * references / TRIAL
    return images * product * (1 + REST)
