"""The search finds every copy of a real image, also mirrored, and the nearest real image and center."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from shards.errors import DataError
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.privacy.findings import Findings, join_findings
from shards.privacy.fingerprints import Fingerprints, Vectors, centers_of, hashes_of
from shards.privacy.leaks import Reason
from shards.privacy.search import search, search_control_group, search_identities
from shards.privacy.synthetic_faces import SyntheticFaces

from ..pictures import encoded, picture, pixels, unit_features

REAL = 20


def real_parts(cut: int = 7) -> list[Fingerprints]:
    exact, near = hashes_of(pixels(seed) for seed in range(REAL))
    whole = Fingerprints(
        keys=[f"real-{seed}" for seed in range(REAL)],
        identities=[f"person-{seed // 5}" for seed in range(REAL)],
        features=unit_features(REAL),
        exact=exact,
        near=near,
    )
    return [
        Fingerprints(**{name: value[first : first + cut] for name, value in vars(whole).items()})
        for first in range(0, REAL, cut)
    ]


CENTERS = Vectors(keys=["a", "b"], identities=["a", "b"], features=unit_features(2, seed=5))


def found(*images: np.ndarray, features: np.ndarray | None = None, people: int = 1) -> Findings:
    count = len(images)
    synthetic_faces_of = SyntheticFaces.of(
        [f"s-{row}" for row in range(count)],
        identities=[f"new-{row * people // count}" for row in range(count)],
        features=unit_features(count, seed=9) if features is None else features,
        images=list(images),
    )
    return search(synthetic_faces_of, real_parts(), centers=CENTERS, probes=unit_features(3, seed=7))


def leaks(*images: np.ndarray) -> list[tuple[str, Reason, str]]:
    return [(leak.key, leak.reason, leak.real) for leak in found(*images).pixels]


def test_unrelated_images_do_not_leak():
    assert leaks(*(pixels(seed) for seed in range(100, 130))) == []


def test_an_exact_copy_is_found_whatever_its_encoding():
    through_png = np.asarray(Image.open(BytesIO(encoded(picture(7), "PNG"))))
    assert leaks(pixels(100), through_png) == [
        ("s-1", Reason.EXACT_PIXELS, "real-7"),
        ("s-1", Reason.NEAR_PIXELS, "real-7"),
    ]


def test_a_mirrored_copy_is_found():
    assert leaks(pixels(7)[:, ::-1]) == [
        ("s-0", Reason.EXACT_MIRRORED, "real-7"),
        ("s-0", Reason.NEAR_MIRRORED, "real-7"),
    ]


def test_two_copies_of_one_face_are_both_found():
    assert [leak[0] for leak in leaks(pixels(19), pixels(19)) if leak[1] == Reason.EXACT_PIXELS] == ["s-0", "s-1"]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_recompressed_rescaled_noisy_copy_is_found(mirrored):
    image = np.asarray(picture(7).resize((64, 64)).resize((112, 112))).astype(float)
    noisy = (image * 0.9 + np.random.default_rng(0).normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)
    copy = decode_rgb(encode_jpeg(noisy, quality=40))
    reason = Reason.NEAR_MIRRORED if mirrored else Reason.NEAR_PIXELS
    assert leaks(copy[:, ::-1] if mirrored else copy) == [("s-0", reason, "real-7")]


def test_the_nearest_face_and_center_of_images_and_of_identities_are_found():
    features = unit_features(4, seed=9)
    result = found(*(pixels(200 + row) for row in range(4)), features=features, people=2)
    real, means = unit_features(REAL), np.stack([features[:2].mean(axis=0), features[2:].mean(axis=0)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for table, queries in ((result.images, features), (result.people, means)):
        assert table.face == [f"real-{row}" for row in (queries @ real.T).argmax(axis=1)]
        np.testing.assert_allclose(table.face_cosine, (queries @ real.T).max(axis=1), atol=1e-5)
        assert table.center == ["ab"[row] for row in (queries @ CENTERS.features.T).argmax(axis=1)]
    assert result.people.names == ["new-0", "new-1"]
    assert result.references == REAL
    np.testing.assert_allclose(result.probes, (unit_features(3, seed=7) @ features.T).max(axis=1), atol=1e-5)


def test_findings_are_stored_as_json_and_merged():
    parts = [found(pixels(7), pixels(300 + row)) for row in range(2)]
    read = [Findings.from_json(json.loads(json.dumps(part.as_json(), allow_nan=False))) for part in parts]
    assert read == parts
    whole = join_findings(read)
    assert whole.images.names == parts[0].images.names + parts[1].images.names
    assert len(whole.pixels) == 4
    assert whole.probes == [max(pair) for pair in zip(parts[0].probes, parts[1].probes, strict=True)]
    with pytest.raises(DataError, match="different real sets, or none"):
        join_findings([])


def test_searching_identities_alone_gives_the_same_findings_as_with_their_images():
    images = [pixels(seed) for seed in range(100, 112)]
    features = unit_features(len(images), seed=4)
    whole = found(*images, features=features, people=3)
    alone = search_identities(whole.identities, features, real_parts(), centers=CENTERS)
    assert alone == whole.people
    other = search_identities(whole.identities[1:], features[1:], real_parts(), centers=CENTERS)
    assert other.face_cosine[0] != alone.face_cosine[0]  # whoever lost an image has another mean
    assert other.face_cosine[1:] == alone.face_cosine[1:]


def test_a_control_group_of_training_identities_is_compared_with_other_identities_only():
    whole = real_parts(cut=REAL)[0]
    features, people = np.asarray(whole.features), np.array(whole.identities)
    centers = centers_of([whole])
    control = search_control_group(whole, real_parts(), centers=centers)
    scores = np.where(people[:, None] == people[None], -1, features @ features.T)
    np.testing.assert_allclose(control.images.face_cosine, scores.max(axis=1), atol=1e-6)
    assert control.images.face == [whole.keys[row] for row in scores.argmax(axis=1)]
    assert not any(center == own for center, own in zip(control.images.center, whole.identities, strict=True))
    assert not any(center == own for center, own in zip(control.people.center, control.people.names, strict=True))
    assert (control.references, control.pixels) == (REAL, [])


def test_a_held_out_control_group_is_compared_with_all_training_identities():
    group = Vectors(keys=["x", "y"], identities=["new", "newer"], features=unit_features(2, seed=9))
    control = search_control_group(group, real_parts(), centers=CENTERS)
    alike = found(pixels(100), pixels(101), features=group.features, people=2)
    assert (control.images.face, control.images.face_cosine) == (alike.images.face, alike.images.face_cosine)
    assert control.people.center_cosine == alike.people.center_cosine
