from __future__ import annotations

from typing import Any, cast

import numpy as np

from jobs.stages.shared.measured_sets import measured
from shards.tars.subset import LabeledImages


class Joined:
    """Faces of two sets, of 64 and of 32 px."""

    def __len__(self) -> int:
        return 6

    def rgb(self, row: int) -> np.ndarray:
        size = 64 if row < 3 else 32
        return np.random.default_rng(row).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_sets_of_different_sizes_are_measured_by_what_the_nets_see_in_both() -> None:
    found: dict[str, Any] = measured(cast(LabeledImages, Joined()), images=6, seed=1)["measured"]
    assert found["images"] == 6
    assert set(found) >= {"women", "turned"}
    assert "age" not in found  # not worth measuring at 32 px
