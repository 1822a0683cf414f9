"""Altered copies of real images are found, whatever was done to them, and images of strangers are not.

Faces are stood in for by random pictures with the spectrum of natural images around one mean picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from shards.errors import DataError
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.privacy.copies.alterations import ALTERATIONS, altered
from shards.privacy.copies.model import LEAST, CopyModel
from shards.privacy.copies.pictures import gray_pictures
from shards.privacy.copies.scores import CopyControl, CopyScores
from shards.privacy.copies.search import CopySearch
from shards.privacy.intervals import wilson

REFERENCES, CONTROL, STRANGERS, COPIES = 300, 60, 40, 1


@dataclass(frozen=True, kw_only=True)
class Part:
    keys: list[str]
    identities: list[str]
    pictures: np.ndarray


def faces(count: int, *, size: int, seed: int) -> list[np.ndarray]:
    """Pictures whose amplitudes fall with the frequency, around a mean with two dark eyes."""
    draw = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]) * size
    y, x = np.mgrid[:size, :size] / size
    eyes = sum(np.exp(-((x - at) ** 2 + (y - 0.45) ** 2) / 0.01) for at in (0.35, 0.65))
    made = []
    for _ in range(count):
        noise = np.fft.ifft2(np.fft.fft2(draw.normal(size=(size, size))) / (1 + frequency) ** 1.3).real
        gray = 140 - 60 * eyes + 40 * noise / noise.std()
        made.append(np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return made


def part_of(images: list[np.ndarray]) -> Part:
    names = [f"r{row}" for row in range(len(images))]
    return Part(keys=names, identities=names, pictures=gray_pictures(images))


def searched(model: CopyModel, part: Part, images: list[np.ndarray], **options: object) -> CopyScores:
    search = CopySearch(model, gray_pictures(images), **options)  # type: ignore[arg-type]
    search.add(part)
    return search.scores([str(row) for row in range(len(images))])


@dataclass(frozen=True, kw_only=True)
class World:
    """References, and what a search found for altered copies of them, `<alteration>/<row>`, and for strangers."""

    real: list[np.ndarray]
    part: Part
    model: CopyModel
    thresholds: dict[str, float]
    found: set[tuple[str, str]]
    alarms: set[str]


@pytest.fixture(scope="module", params=[32, pytest.param(112, marks=pytest.mark.long)])
def world(request: pytest.FixtureRequest) -> World:
    real = faces(REFERENCES, size=request.param, seed=1)
    part = part_of(real)
    model = CopyModel(part.pictures)
    planted = [
        (f"{name}/{7 * number + 11 * copy}", 7 * number + 11 * copy, name)
        for number, name in enumerate(ALTERATIONS)
        for copy in range(COPIES)
    ]
    copies = [altered(real[row], name, seed=key) for key, row, name in planted]
    images = [
        *faces(CONTROL + STRANGERS, size=request.param, seed=2),
        *(decode_rgb(encode_jpeg(copy, quality=95)) for copy in copies),
    ]
    scores = searched(model, part, images)
    thresholds = CopyControl(scores.rows(slice(0, CONTROL))).thresholds(1)
    strangers = scores.rows(slice(CONTROL, CONTROL + STRANGERS))
    own = scores.rows(slice(CONTROL + STRANGERS, None))
    keys = {own_key: key for own_key, (key, _, _) in zip(own.keys, planted, strict=True)}
    return World(
        real=real,
        part=part,
        model=model,
        thresholds=thresholds,
        found={(keys[key], name) for key, name, _ in own.reached(thresholds)},
        alarms={key for key, _, _ in strangers.reached(thresholds)},
    )


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_copy_is_found_as_one_of_its_original(world: World, alteration: str) -> None:
    number = list(ALTERATIONS).index(alteration)
    rows = [7 * number + 11 * copy for copy in range(COPIES)]
    assert {(f"{alteration}/{row}", f"r{row}") for row in rows} <= world.found


def test_strangers_are_rarely_taken_for_copies(world: World) -> None:
    assert len(world.alarms) <= 6  # 60 faces give rough thresholds


def test_the_order_and_the_size_of_parts_do_not_matter(world: World) -> None:
    images = [altered(world.real[row], "cropped by 20 %", seed="") for row in (3, 5)]
    whole = searched(world.model, world.part, images)
    search = CopySearch(world.model, gray_pictures(images))
    for rows in (slice(200, 300), slice(0, 200)):
        search.add(
            Part(
                keys=world.part.keys[rows],
                identities=world.part.identities[rows],
                pictures=world.part.pictures[rows],
            )
        )
    parts = search.scores(whole.keys)
    assert parts.references == whole.references == REFERENCES
    assert parts.real == whole.real
    for family, scores in whole.scores.items():
        np.testing.assert_allclose(parts.scores[family], scores, atol=2e-3)


def test_references_of_a_query_s_own_identity_are_left_out(world: World) -> None:
    found = searched(world.model, world.part, [world.real[4]], identities=["r4"])
    assert not any("r4" in names for names in found.real.values())
    assert not list(found.reached(world.thresholds))


def test_parts_without_pictures_are_not_searched(world: World) -> None:
    search = CopySearch(world.model, gray_pictures([world.real[0]]))
    search.add(Part(keys=["a"], identities=["a"], pictures=np.empty((0, 1024), np.uint8)))
    assert search.scores(["0"]).references == 0


def test_a_flat_picture_is_no_copy(world: World) -> None:
    flat = np.full_like(world.real[0], 90)
    found = searched(world.model, world.part, [flat])
    assert not list(found.reached(world.thresholds))


def test_too_few_references_are_refused() -> None:
    with pytest.raises(DataError, match=r"audit\.copies: got 19 real images, thorough needs 20; use quick"):
        CopyModel(np.zeros((LEAST - 1, 1024), np.uint8))


def test_thresholds_are_reached_by_as_many_of_the_control_group_as_allowed() -> None:
    draw = np.random.default_rng(0)
    control = CopyScores(
        keys=[str(row) for row in range(1000)],
        references=10,
        scores={family: draw.gumbel(size=1000).round(4).tolist() for family in ("a", "b")},
        real={family: ["r"] * 1000 for family in ("a", "b")},
    )
    for allowed in (0, 1, 10):
        reached = control.reached(CopyControl(control).thresholds(allowed))
        assert len({key for key, _, _ in reached}) == allowed


def test_photographs_that_are_among_the_references_under_another_name_do_not_raise_thresholds() -> None:
    draw = np.random.default_rng(0)
    scores = {family: draw.gumbel(size=1000).round(4).tolist() for family in ("a", "b")}
    control = CopyScores(
        keys=[str(row) for row in range(1000)], references=10, scores=scores, real=dict.fromkeys(scores, ["r"] * 1000)
    )
    usual = CopyControl(control)
    assert usual.copies == frozenset()
    scores["a"][7], scores["b"][8] = 40.0, 30.0
    again = CopyControl(control)
    assert again.copies == {"7", "8"}
    assert again.thresholds(5) == pytest.approx(usual.thresholds(5), abs=0.2)


@pytest.mark.parametrize(
    ("found", "tried", "low", "high"), [(100, 100, 0.963, 1.0), (0, 0, 0, 1), (5, 10, 0.237, 0.763)]
)
def test_the_interval_of_a_rate_is_wilson_s(found: int, tried: int, low: float, high: float) -> None:
    assert wilson(found, tried) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
