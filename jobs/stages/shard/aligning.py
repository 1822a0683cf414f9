"""The aligner of `cemiface` as the preparation of images in `shards` takes it, which knows no nets."""

from __future__ import annotations

import numpy as np

from cemiface.measures.aligner import open_aligner
from shards.images.outcomes import Outcome, RejectedImageError
from shards.images.prepare import Align


def open_align(size: int) -> Align:
    """From photos to faces of `size` px on the ArcFace template."""
    aligner = open_aligner()

    def align(photo: np.ndarray) -> np.ndarray:
        found = aligner.align(photo, size=size)
        if found.face is None:
            raise RejectedImageError(Outcome(found.outcome), found.detail)
        return found.face

    return align
