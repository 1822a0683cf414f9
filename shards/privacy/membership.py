"""Membership test: are training images closer to the synthetic set than other images of the same people?"""

from __future__ import annotations

import numpy as np


def membership(trained: np.ndarray, kept_back: np.ndarray) -> dict[str, float]:
    """Compare training images with images of the same people that were kept back from training.

    Args:
        trained, kept_back: (N,) and (M,) cosines of such images to their nearest synthetic image.

    Returns:
        `auc`: the probability that a trained image is closer (0.5: no sign of memorization); `standard_error`: of
        the AUC if there is no memorization (Mann and Whitney, 1947); `trained` and `kept_back`: N and M.
    """
    order = np.sort(kept_back)
    below, above = np.searchsorted(order, trained, "left"), np.searchsorted(order, trained, "right")
    n, m = len(trained), len(kept_back)
    return {
        "auc": float((below + above).mean() / (2 * m)),
        "standard_error": float(((n + m + 1) / (12 * n * m)) ** 0.5),
        "trained": n,
        "kept_back": m,
    }
