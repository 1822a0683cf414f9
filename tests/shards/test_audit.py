"""The audit finds real faces in a synthetic set, and only those."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from shards.audit import (
    Leak,
    Reason,
    Verdict,
    embedding_leaks,
    fingerprint,
    impostor_threshold,
    nearest,
    pixel_leaks,
    unseen_threshold,
)
from shards.centers import normalized
from shards.errors import DataError
from shards.images import decode_rgb, encode_jpeg

from .pictures import encoded, picture, pixels


def random_features(count: int, *, seed: int = 0, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_nearest_is_the_brute_force_answer_in_any_block_size(block):
    queries, references = random_features(50) * 9, random_features(81, seed=1) / 9
    scores = normalized(queries) @ normalized(references).T
    index, cosine = nearest(queries, references, block=block)
    np.testing.assert_array_equal(index, scores.argmax(axis=1))
    np.testing.assert_allclose(cosine, scores.max(axis=1), atol=1e-6)
    assert (index.dtype, cosine.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("block", [1, 2, 4096])
def test_the_first_of_equal_references_is_nearest(block):
    index, cosine = nearest(np.eye(2, dtype=np.float32)[:1], np.eye(2, dtype=np.float32)[[1, 0, 0]], block=block)
    assert (index.tolist(), cosine.tolist()) == ([1], [1.0])


@pytest.mark.parametrize("fmr", [0.5, 1e-2, 1e-3])
@pytest.mark.parametrize("block", [64, 4096])
def test_the_threshold_is_reached_by_the_wanted_rate_of_non_mated_pairs(fmr, block):
    features, labels = random_features(400), np.arange(400) // 4
    threshold = impostor_threshold(features, labels, fmr=fmr, block=block)
    unit = normalized(features)
    left, right = np.triu_indices(400, 1)
    scores = np.sort((unit @ unit.T)[left, right][labels[left] != labels[right]])
    allowed = int(fmr * len(scores))
    assert (scores >= threshold).sum() <= allowed
    assert (scores >= threshold - 4e-6).sum() >= allowed


def test_mated_pairs_do_not_move_the_threshold():
    features = np.repeat(random_features(100), 4, axis=0)
    labels = np.arange(400) // 4
    assert impostor_threshold(features, labels, fmr=0.005) < 0.9
    with pytest.raises(DataError, match="more non-mated pairs are identical"):
        impostor_threshold(features, np.arange(400), fmr=0.005)


def test_a_large_set_is_sampled_evenly():
    features, labels = random_features(3000), np.arange(3000)
    threshold = impostor_threshold(features, labels, fmr=1e-2, images=500)
    assert threshold == pytest.approx(impostor_threshold(features, labels, fmr=1e-2), abs=0.02)
    assert threshold == impostor_threshold(features[::6], labels[::6], fmr=1e-2)


@pytest.mark.parametrize(
    ("fmr", "identities", "words"),
    [
        (1e-4, 100, r"4950 non-mated pairs resolve at least 2\.0e-03"),
        (1e-2, 1, "there is one identity only"),
        (0, 100, "between 0 and 1"),
        (1, 100, "between 0 and 1"),
        (float("nan"), 100, "between 0 and 1"),
    ],
)
def test_a_rate_that_the_pairs_cannot_resolve_is_refused(fmr, identities, words):
    with pytest.raises(DataError, match=words):
        impostor_threshold(random_features(100), np.arange(100) % identities, fmr=fmr)


def leaks_of(*images: np.ndarray) -> list[tuple[str, Reason, str]]:
    real = fingerprint((f"real-{seed}", pixels(seed)) for seed in range(20))
    synthetic = fingerprint((f"synthetic-{row}", image) for row, image in enumerate(images))
    return [(leak.key, leak.reason, leak.real_key) for leak in pixel_leaks(synthetic, real)]


def test_unrelated_images_do_not_leak():
    assert leaks_of(*(pixels(seed) for seed in range(100, 130))) == []


def test_an_exact_copy_is_found_whatever_its_encoding():
    through_png = np.asarray(Image.open(BytesIO(encoded(picture(7), "PNG"))))
    assert leaks_of(pixels(100), through_png) == [
        ("synthetic-1", Reason.EXACT_PIXELS, "real-7"),
        ("synthetic-1", Reason.NEAR_PIXELS, "real-7"),
    ]


def test_a_mirrored_copy_is_found():
    assert leaks_of(pixels(7)[:, ::-1]) == [
        ("synthetic-0", Reason.EXACT_MIRRORED, "real-7"),
        ("synthetic-0", Reason.NEAR_MIRRORED, "real-7"),
    ]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_recompressed_rescaled_noisy_copy_is_found(mirrored):
    image = np.asarray(picture(7).resize((64, 64)).resize((112, 112))).astype(float)
    noisy = (image * 0.9 + np.random.default_rng(0).normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)
    copy = decode_rgb(encode_jpeg(noisy, quality=40))
    reason = Reason.NEAR_MIRRORED if mirrored else Reason.NEAR_PIXELS
    assert leaks_of(copy[:, ::-1] if mirrored else copy) == [("synthetic-0", reason, "real-7")]


def test_embeddings_at_or_above_the_threshold_leak():
    real = np.eye(3, dtype=np.float32)
    synthetic = np.array([[1, 1, 0], [0, 5, 0], [1, 1, 1]], np.float32)
    leaks = embedding_leaks(
        ["x", "y", "z"], features=synthetic, real_keys=["a", "b", "c"], real_features=real, threshold=0.7
    )
    assert [(leak.key, leak.reason, leak.real_key) for leak in leaks] == [
        ("x", Reason.TOO_SIMILAR, "a"),
        ("y", Reason.TOO_SIMILAR, "b"),
    ]
    assert [leak.cosine for leak in leaks] == pytest.approx([0.5**0.5, 1])


def test_a_verdict_lists_what_to_drop_and_is_json():
    leaks = (
        Leak(key="b", reason=Reason.TOO_SIMILAR, real_key="r", cosine=0.9),
        Leak(key="a", reason=Reason.EXACT_PIXELS, real_key="r"),
        Leak(key="b", reason=Reason.NEAR_PIXELS, real_key="r"),
    )
    verdict = Verdict(
        images=9, references=8, embedder="judge", threshold=0.3, basis="by test", judged={"x.tar": "00"}, leaks=leaks
    )
    assert verdict.dropped == ["a", "b"]
    record = json.loads(json.dumps(verdict.record(), allow_nan=False))
    assert record["counts"] == {
        "exact_pixels": 1,
        "exact_mirrored": 0,
        "near_pixels": 1,
        "near_mirrored": 0,
        "too_similar": 1,
    }
    assert record["leaks"][0] == {"key": "b", "reason": "too_similar", "real_key": "r", "cosine": 0.9}
    assert record["judged"] == {"x.tar": "00"}


def test_at_most_the_wanted_rate_of_unseen_faces_reaches_the_threshold():
    references, unseen = random_features(300, seed=1), random_features(200, seed=2)
    threshold = unseen_threshold(unseen, references, rate=0.05)
    _, cosine = nearest(unseen, references)
    assert (cosine >= threshold).sum() == 10
    assert (cosine >= threshold - 1e-6).sum() == 11


def test_a_rate_that_the_unseen_faces_cannot_resolve_is_refused():
    with pytest.raises(DataError, match="hold out more"):
        unseen_threshold(random_features(40), random_features(10), rate=0.05)
    with pytest.raises(DataError, match="between 0 and 1"):
        unseen_threshold(random_features(40), random_features(10), rate=0.0)
