"""Several sets as one: identities and keys of one name stay apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards.images.jpeg import encode_jpeg
from shards.tars.joined import JoinedSets
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter


def shard_set(path: Path, *, color: int, images: int, size: int = 16) -> ShardSet:
    with path.open("wb") as file:
        tar = TarWriter(file)
        for number in range(images):
            face = np.full((size, size, 3), color, np.uint8)
            record = {"identity": f"synthetic-{number // 2:06d}", "index": number, "color": color}
            tar.add(f"{number:06d}-000", jpg=encode_jpeg(face, quality=95), record=record)
        tar.close()
    return ShardSet([path])


def test_images_and_identities_of_one_name_stay_apart(tmp_path: Path) -> None:
    joined = JoinedSets(
        {
            "synthetic": shard_set(tmp_path / "a.tar", color=10, images=3),
            "run:other": shard_set(tmp_path / "b.tar", color=200, images=4),
        }
    )
    assert len(joined) == len(joined.keys) == len(set(joined.keys)) == 7
    assert joined.classes == [f"{name}/synthetic-00000{n}" for name in ("run:other", "synthetic") for n in (0, 1)]
    assert [joined.classes[label] for label in joined.labels[[0, 3]]] == [
        "synthetic/synthetic-000000",
        "run:other/synthetic-000000",
    ]
    assert [record["color"] for record in joined.records()] == [10] * 3 + [200] * 4
    assert [round(joined.rgb(row).mean(), -1) for row in (0, 2, 3, 6)] == [10, 10, 200, 200]
    with pytest.raises(IndexError):
        joined.rgb(7)


def test_images_of_larger_sets_are_scaled_to_the_smallest_size(tmp_path: Path) -> None:
    large = shard_set(tmp_path / "a.tar", color=10, images=3, size=32)
    joined = JoinedSets({"large": large, "small": shard_set(tmp_path / "b.tar", color=200, images=2)})
    out = np.empty((16, 16, 3), np.uint8)
    for row, color in ((0, 10), (4, 200)):
        assert joined.rgb(row).shape == (16, 16, 3)
        assert abs(int(joined.rgb(row).mean()) - color) <= 2
        joined.rgb(row, out=out)
        np.testing.assert_array_equal(out, joined.rgb(row))
