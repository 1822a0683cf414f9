"""Similarity transforms, images cut along them, and faces found and aligned in photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cemiface.measures.align import TEMPLATE, Similarity, cut, fit_similarity
from cemiface.measures.aligner import Aligner, open_aligner
from cemiface.measures.face_cutter import FaceCutter, open_face_cutter, resized

FACES = Path(__file__).parents[3] / "data" / "orl"


def similarity(*, degrees: float, scale: float, shift: tuple[float, float]) -> Similarity:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Similarity(matrix=scale * turn, shift=np.array(shift))


IDENTITY = similarity(degrees=0, scale=1, shift=(0, 0))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("degrees", [0, 30, -120, 180])
def test_a_similarity_is_found_from_its_points_and_inverted(degrees: float) -> None:
    made = similarity(degrees=degrees, scale=1.7, shift=(40, -9))
    found = fit_similarity(TEMPLATE, target=made(TEMPLATE))
    np.testing.assert_allclose(found.matrix, made.matrix, atol=1e-9)
    np.testing.assert_allclose(found.inverse(found(TEMPLATE)), TEMPLATE, atol=1e-9)
    assert found.scale == pytest.approx(1.7)


def test_mirrored_points_are_turned_and_scaled_but_never_mirrored() -> None:
    found = fit_similarity(TEMPLATE, target=TEMPLATE * (-1, 1))
    assert np.linalg.det(found.matrix) > 0


def test_points_at_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="two places or more"):
        fit_similarity(np.ones((5, 2)), target=TEMPLATE)


def test_nothing_changes_where_nothing_moves() -> None:
    face = noise(112, 112)
    assert (cut(face, to_template=IDENTITY, size=112) == face).all()


def test_a_cut_by_whole_pixels_is_a_part_of_the_image_with_its_edge_repeated() -> None:
    face = noise(112, 112)
    found = cut(face, to_template=IDENTITY, size=50, left=100, top=20, side=50)
    assert (found[:, :12] == face[20:70, 100:]).all()
    assert (found[:, 12:] == face[20:70, -1:]).all()


@pytest.mark.parametrize("finer", [1.5, 3.0, 8.0])
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_details_finer_than_the_result_become_their_mean_instead_of_patterns(finer: float, degrees: float) -> None:
    side = round(112 * finer * 1.6)
    stripes = np.where((np.arange(side) % 2)[None, :, None], 255, 0).astype(np.uint8)
    photo = np.broadcast_to(stripes, (side, side, 3)).copy()
    place = similarity(degrees=degrees, scale=1 / finer, shift=(0, 0))
    middle = np.full((1, 2), side / 2)
    place = Similarity(matrix=place.matrix, shift=(56 - place(middle))[0])
    found = cut(photo, to_template=place, size=112).astype(float)[8:-8, 8:-8]
    assert abs(found.mean() - 127.5) < 2
    assert found.std() < (20 if finer < 2 else 8)


def test_an_image_cut_out_of_a_turned_copy_is_the_image_again() -> None:
    face = np.asarray(Image.fromarray(noise(9, 9)).resize((112, 112), Image.Resampling.BICUBIC))
    place = similarity(degrees=25, scale=2.5, shift=(150, 60))
    photo = cut(face, to_template=place, size=480, side=480)
    again = cut(photo, to_template=place.inverse, size=112)
    assert np.abs(again.astype(float) - face)[4:-4, 4:-4].mean() < 1


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return open_aligner()


@pytest.fixture(scope="module")
def portraits() -> list[np.ndarray]:
    """Pictures of different people, uint8 (112, 92, 3)."""
    if not FACES.is_dir():
        pytest.fail(f"{FACES}: the demo's faces are not there; run `make data/orl`, as `make test` does")
    return [np.asarray(Image.open(FACES / f"s{person}" / "1.pgm").convert("RGB")) for person in (1, 5, 9, 20)]


def photo_of(portraits: list[np.ndarray], places: list[Similarity], *, size: tuple[int, int]) -> np.ndarray:
    """Portraits in a gray photo; a place leads from a portrait's pixels to those of the photo."""
    photo = Image.new("RGB", size, (128, 128, 128))
    for portrait, place in zip(portraits, places, strict=True):
        back = place.inverse
        row = (*back.matrix[0], back.shift[0], *back.matrix[1], back.shift[1])
        image = Image.fromarray(portrait).transform(size, Image.Transform.AFFINE, row, Image.Resampling.BICUBIC)
        mask = Image.new("L", portrait.shape[1::-1], 255).transform(size, Image.Transform.AFFINE, row)
        photo.paste(image, mask=mask)
    return np.asarray(photo)


def test_a_face_is_found_wherever_it_is_and_however_large_and_turned(
    aligner: Aligner, portraits: list[np.ndarray]
) -> None:
    corners = np.array([(20.0, 30.0), (72.0, 30.0), (20.0, 90.0), (72.0, 90.0)])
    for portrait in portraits:
        plain = aligner.align(portrait, size=112)
        assert plain.outcome == "aligned"
        assert plain.to_template is not None
        for place in (
            similarity(degrees=20, scale=2, shift=(150, 60)),
            similarity(degrees=-25, scale=1, shift=(60, 200)),
        ):
            found = aligner.align(photo_of([portrait], [place], size=(500, 420)), size=64)
            assert found.outcome == "aligned"
            assert found.face is not None
            assert found.to_template is not None
            assert found.face.shape == (64, 64, 3)
            moved = found.to_template(place(corners)) - plain.to_template(corners)
            assert np.linalg.norm(moved, axis=1).max() < 6  # pixels of 112


def test_aligning_an_aligned_face_hardly_moves_it(aligner: Aligner, portraits: list[np.ndarray]) -> None:
    first = aligner.align(portraits[0], size=224)
    assert first.face is not None
    again = aligner.align(first.face, size=224)
    assert again.to_template is not None
    assert np.abs(again.to_template(TEMPLATE * 2) - TEMPLATE).max() < 3


def test_photos_without_a_face_and_with_two_are_told_apart(aligner: Aligner, portraits: list[np.ndarray]) -> None:
    assert aligner.align(noise(300, 200), size=112).outcome == "no_face"
    assert aligner.align(np.full((40, 60, 3), 90, np.uint8), size=112).outcome == "no_face"
    one, other = (similarity(degrees=0, scale=1.5, shift=shift) for shift in ((20, 40), (230, 60)))
    two = aligner.align(photo_of(portraits[:2], [one, other], size=(420, 300)), size=112)
    assert (two.outcome, two.face) == ("many_faces", None)
    assert two.detail == "2 faces of similar size"


def test_a_small_face_behind_the_large_one_does_not_matter(aligner: Aligner, portraits: list[np.ndarray]) -> None:
    large, small = similarity(degrees=0, scale=3, shift=(20, 40)), similarity(degrees=0, scale=1, shift=(330, 60))
    assert aligner.align(photo_of(portraits[:2], [large, small], size=(480, 420)), size=112).outcome == "aligned"


def test_a_face_that_is_small_in_its_photo_is_found(aligner: Aligner, portraits: list[np.ndarray]) -> None:
    place = similarity(degrees=0, scale=1, shift=(700, 420))
    assert aligner.align(photo_of(portraits[:1], [place], size=(1200, 900)), size=112).outcome == "aligned"


def test_faces_are_cut_out_of_pictures_and_the_others_stay_whole(aligner: Aligner, portraits: list[np.ndarray]) -> None:
    place, there = similarity(degrees=10, scale=2, shift=(150, 60)), similarity(degrees=0, scale=2, shift=(20, 40))
    beside = similarity(degrees=0, scale=2, shift=(250, 60))
    pictures = [
        photo_of(portraits[:1], [place], size=(480, 480)),
        noise(480, 480),
        photo_of(portraits[:2], [there, beside], size=(480, 480)),
    ]
    cutter = FaceCutter(size=64, aligner=aligner)
    cut = cutter.cut(np.stack(pictures))
    assert cut.outcomes == ("aligned", "no_face", "many_faces")
    assert cut.faces.shape == (3, 64, 64, 3)
    assert (cut.faces[0] == aligner.align(pictures[0], size=64).face).all()
    assert (cut.faces[1] == resized(pictures[1], size=64)).all()
    alone = cutter.cut(np.stack(pictures[:1]))
    assert (alone.faces[0] == cut.faces[0]).all()
    seen = cut.presence({"face": np.float32([0.9, 0.8, 0.7]), "yaw": np.float32([1, 2, 3])})
    assert seen["face"].tolist() == [np.float32(0.9), 0, 0]
    assert seen["yaw"].tolist() == [1, 2, 3]


def test_aligned_pictures_are_taken_as_they_are_or_resized(portraits: list[np.ndarray]) -> None:
    faces = np.stack([portraits[0][:92], portraits[1][:92]])
    assert (open_face_cutter(size=92, aligned=True).cut(faces).faces == faces).all()
    assert open_face_cutter(size=46, aligned=True).cut(faces).faces.shape == (2, 46, 46, 3)
