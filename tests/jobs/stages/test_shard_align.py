"""`shard.align`: photos that are not aligned become aligned faces, or end in an outcome of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cemiface.measures.aligner import open_aligner
from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.stages.shard.plan import STAGE, ShardFaces
from shards.images.jpeg import decode_rgb
from shards.tars.reader import read_tar

from ...shards.pictures import encoded
from .sharding import planned, sharded

ROOT = Path(__file__).parents[3]
FACES = ROOT / "data" / "orl"


def portrait(person: int) -> Image.Image:
    if not FACES.is_dir():
        pytest.fail(f"{FACES}: the demo's faces are not there; run `make data/orl`, as `make test` does")
    return Image.open(FACES / f"s{person}" / "1.pgm").convert("RGB").resize((184, 224), Image.Resampling.BICUBIC)


def photo(*people: tuple[int, float], size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Portraits side by side, each (person, scale), on gray."""
    made, left = Image.new("RGB", size, (128, 128, 128)), 30
    for person, scale in people:
        image = portrait(person).resize((round(184 * scale), round(224 * scale)), Image.Resampling.BICUBIC)
        made.paste(image, (left, 60))
        left += image.width + 40
    return made


def turned(image: Image.Image) -> bytes:
    """Stored lying on its side, with the EXIF orientation that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8))


PHOTOS = {
    "one face": lambda: encoded(photo((1, 1.0)), "JPEG"),
    "one face, turned by its EXIF orientation": lambda: turned(photo((5, 1.0))),
    "a second face, at least half as large": lambda: encoded(photo((1, 1.0), (5, 0.9)), "JPEG"),
    "a second face, less than half as large": lambda: encoded(photo((1, 1.6), (5, 0.5)), "JPEG"),
    "no face": lambda: encoded(noise(), "JPEG"),
    "one color": lambda: encoded(Image.new("RGB", (300, 200), (90, 90, 90)), "PNG"),
    "aligned already": lambda: encoded(aligned(1), "JPEG", quality=95, subsampling=0),
}


def aligned(person: int) -> Image.Image:
    face = open_aligner().align(np.asarray(portrait(person)), size=112).face
    assert face is not None
    return Image.fromarray(face)


def rows() -> list[tuple[str, str]]:
    """Photo and result of each row of the table in docs/inputs.md."""
    text = (
        (ROOT / "docs" / "inputs.md").read_text().partition("## Photos that are not aligned\n")[2].partition("\n## ")[0]
    )
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| photo")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [(photo, result.strip("`")) for photo, result in cells]


def test_each_photo_becomes_what_the_table_says(tmp_path: Path) -> None:
    assert [name for name, _ in rows()] == list(PHOTOS)
    for number, make in enumerate(PHOTOS.values()):
        (tmp_path / "photos" / "anna").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "anna" / f"{number}.jpg").write_bytes(make())
    folder, summary = sharded(tmp_path, tmp_path / "photos", image_size=112, align=True, max_bad_fraction=1)
    samples = [sample for tar in folder.glob("*.tar") for sample in read_tar(tar)]
    found = {sample.record["source"]: sample.record["outcome"] for sample in samples}
    found |= {line["source"]: line["outcome"] for line in summary["figures"]["rejected"]}
    assert [found[f"anna/{number}.jpg"] for number in range(len(PHOTOS))] == [result for _, result in rows()]
    assert {decode_rgb(sample.jpg).shape for sample in samples} == {(112, 112, 3)}


def test_faces_come_out_upright_on_the_template(tmp_path: Path) -> None:
    (tmp_path / "photos" / "anna").mkdir(parents=True)
    (tmp_path / "photos" / "anna" / "1.jpg").write_bytes(turned(photo((5, 1.0))))
    folder, _ = sharded(tmp_path, tmp_path / "photos", image_size=112, align=True)
    (sample,) = (sample for tar in folder.glob("*.tar") for sample in read_tar(tar))
    difference = decode_rgb(sample.jpg).astype(float) - np.asarray(aligned(5))
    assert np.abs(difference[30:100, 30:82]).mean() < 12


def test_photos_without_a_face_count_as_bad(tmp_path: Path) -> None:
    (tmp_path / "photos" / "anna").mkdir(parents=True)
    (tmp_path / "photos" / "anna" / "1.jpg").write_bytes(encoded(noise(), "JPEG"))
    with pytest.raises(Exception, match=r"first: anna/1\.jpg: no_face, no face was found\), .*max_bad_fraction"):
        sharded(tmp_path, tmp_path / "photos", align=True)


def test_the_setting_is_no_part_of_the_fingerprint_of_stages_finished_without_it(tmp_path: Path) -> None:
    plain = ShardFaces(faces="faces").fingerprint()
    assert "align" not in plain
    assert ShardFaces(faces="faces", align=True).fingerprint() != plain


def test_photos_of_any_size_can_be_hashed_by_their_pixels(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "photos" / "anna").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "anna" / f"{number}.png").write_bytes(encoded(photo((1, 1.0)), "PNG"))
    run = planned(tmp_path, tmp_path / "photos", align=True, hash="pixels", duplicates="first")
    assert sum(unit.images for unit in run.ledger.units(STAGE)) == 1


def test_aligning_and_resizing_together_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("name: x\nshard: {faces: faces, align: true, resize: center}\n")
    with pytest.raises(ConfigError, match=r"resize: got center with align: true; allowed: never"):
        load_run(config)
