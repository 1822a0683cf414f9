from __future__ import annotations

from pathlib import Path

import numpy as np

from shards.exports.sheets import PER_ROW, alteration_sheet, sample_sheet
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.privacy.copies.alterations import ALTERATIONS
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter

SIZE = 16


def test_a_row_of_samples_is_one_person_in_the_order_of_what_was_asked(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        tar = TarWriter(file)
        for number, (person, m) in enumerate([("a", 1.0), ("a", 0.0), ("b", 0.5)]):
            face = np.full((SIZE, SIZE, 3), 60 * number + 20, np.uint8)
            record = {"identity": person, "origin": "synthetic", "asked": {"m": m}}
            tar.add(f"{number:06d}-000", jpg=encode_jpeg(face, quality=95), record=record)
        tar.close()
    sheet = decode_rgb(sample_sheet(ShardSet([tmp_path / "a.tar"])))
    assert sheet.shape == (2 * SIZE, 12 * SIZE, 3)
    tiles = [int(sheet[row * SIZE + 8, column * SIZE + 8].mean().round(-1)) for row, column in ((0, 0), (0, 1), (1, 0))]
    assert tiles == [80, 20, 140]
    assert sheet[SIZE + 8, 2 * SIZE + 8].min() > 250  # white behind the end of a short row


def test_the_sheet_of_alterations_has_a_tile_for_each_that_is_known() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    names = [*ALTERATIONS][: PER_ROW + 1]
    sheet = decode_rgb(alteration_sheet(image, [*names, "one of another version"]))
    assert sheet.shape == (2 * 32, PER_ROW * 32, 3)
