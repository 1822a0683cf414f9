"""Real images planted into a set are found by their pixels alone, without a net's embeddings.

On the demo's faces. What a net adds, and how often it errs, is measured with more people by `benchmarks.audit_leaks`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.images.prepare import prepare
from shards.images.rules import ImageRules
from shards.privacy.findings import Findings
from shards.privacy.fingerprints import Fingerprints, Vectors, hashes_of
from shards.privacy.search import search
from shards.privacy.synthetic_faces import SyntheticFaces
from shards.sources.sources import open_source

from ..pictures import unit_features

FACES = Path(__file__).parents[3] / "data" / "orl"
SIZE = 64
Faces = dict[str, tuple[str, np.ndarray]]


@pytest.fixture(scope="module")
def faces() -> Faces:
    if not FACES.is_dir():
        pytest.fail(f"{FACES}: the demo's faces are not there; run `make data/orl`, as `make test` does")
    source, rules = open_source(FACES), ImageRules(size=SIZE, resize="center")
    prepared = {
        face.path: (face.identity, prepare(source.read(face), rules=rules).jpeg) for face in source.listing().faces
    }
    return {path: (identity, decode_rgb(jpeg)) for path, (identity, jpeg) in prepared.items() if jpeg is not None}


def searched(faces: Faces, planted: list[np.ndarray]) -> Findings:
    """Against the people of the first half of the alphabet; the embeddings are noise."""
    trained = {path: face for path, face in faces.items() if face[0] < "s25"}
    exact, near = hashes_of(rgb for _, rgb in trained.values())
    references = Fingerprints(
        keys=list(trained),
        identities=[identity for identity, _ in trained.values()],
        features=unit_features(len(trained)),
        exact=exact,
        near=near,
    )
    names = [f"planted-{row}" for row in range(len(planted))]
    synthetic_faces_of = SyntheticFaces.of(
        names, identities=names, features=unit_features(len(planted), seed=1), images=planted
    )
    centers = Vectors(keys=["c"], identities=["c"], features=unit_features(1, seed=2))
    return search(synthetic_faces_of, [references], centers=centers, probes=centers.features[:0])


def reencoded(face: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    face.save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda face: face,
    "re-encoded": reencoded,
    "mirrored": lambda face: face.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and re-encoded": lambda face: reencoded(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "blurred": lambda face: face.filter(ImageFilter.GaussianBlur(1)),
    "brightened": lambda face: ImageEnhance.Brightness(face).enhance(1.2),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_planted_image_is_found_by_its_pixels(faces: Faces, way: str):
    """Each is stored once more as JPEG, as a published image would be."""
    sources = [path for path in sorted(faces) if faces[path][0] < "s25"][::4]
    changed = [np.asarray(WAYS[way](Image.fromarray(faces[path][1]))) for path in sources]
    planted = [decode_rgb(encode_jpeg(rgb, quality=95)) for rgb in changed]
    found = {leak.key: leak.real for leak in searched(faces, planted).pixels}
    assert len(found) == len(sources)
    same = [faces[found[f"planted-{row}"]][0] == faces[path][0] for row, path in enumerate(sources)]
    assert way == "blurred" or all(
        same
    )  # blurred, some images of two people have one hash; they count as leaks all the same


def test_images_of_other_people_are_not_reported_as_pixel_copies(faces: Faces):
    others = [rgb for identity, rgb in faces.values() if identity >= "s25"]
    assert len(others) > 100
    assert searched(faces, others).pixels == []
