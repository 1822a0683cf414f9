"""Gender, age and pose of a set of faces, for tables that compare sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from cemiface.measures.attributes import open_attribute_nets
from jobs.frame.seeds import derive
from shards.privacy.intervals import wilson
from shards.tars.subset import LabeledImages

TURNED = 18  # degrees of yaw, from which a face counts as turned: a twentieth of LFW to each side
DIGITS = 4


def measured(faces: LabeledImages, *, images: int, seed: int) -> dict[str, Any]:
    """Shares of women and of turned faces with 95 % intervals, and mean age, of `images` drawn faces.

    Only what the embedded nets measure at the faces' size. {} for no images.
    """
    if not images:
        return {}
    count = min(images, len(faces))
    rows = np.sort(np.random.default_rng(derive(seed, "measured images")).permutation(len(faces))[:count])
    nets = open_attribute_nets(size=faces.rgb(int(rows[0])).shape[0])
    parts = [nets.measure(faces.rgb(int(row)).transpose(2, 0, 1)[None]) for row in rows]
    found = {name: np.concatenate([part[name] for part in parts]) for name in nets.names}
    shown: dict[str, Any] = {"images": count}
    if "male" in found:
        shown["women"] = _share(found["male"] < 0.5)
    if "yaw" in found:
        shown["turned"] = _share(np.abs(found["yaw"]) >= TURNED)
    if "age" in found:
        shown["age"] = {"mean": round(float(found["age"].mean()), 1), "std": round(float(found["age"].std()), 1)}
    return {"measured": shown}


def _share(true: np.ndarray) -> dict[str, Any]:
    bounds = wilson(int(true.sum()), len(true))
    return {"value": round(float(true.mean()), DIGITS), "interval": [round(bound, DIGITS) for bound in bounds]}
