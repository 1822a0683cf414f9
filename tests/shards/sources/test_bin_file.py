"""insightface's benchmark files are read from any pickle protocol; other pickles are refused and never run."""
# ruff: noqa: N802

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.sources.bin_file import read_bin

IMAGES = [b"\xff\xd8 first", b"second \x00\x80\xff", b"third", b"x" * 300]
SAME = [True, False]
# What Python 2 wrote: str as (SHORT_)BINSTRING, protocol 2; and protocol 0's truth values.
PYTHON_2 = (
    b"\x80\x02]q\x00(U\x08\xff\xd8 firstT\n\x00\x00\x00second \x00\x80\xffU\x05thirdq\x01h\x01e](\x88\x89e\x86q\x02."
)
PROTOCOL_0_TRUTH = b"\x80\x02]q\x00(U\x01aU\x01be]q\x01(I01\ne\x86."


def refusal(data: bytes) -> str:
    with pytest.raises(DataError) as error:
        read_bin(data, name="lfw.bin")
    assert str(error.value).startswith("lfw.bin: ")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_binary_protocol_of_python_3_is_read(protocol):
    found = read_bin(pickle.dumps((IMAGES, SAME), protocol=protocol), name="lfw.bin")
    assert found.images == IMAGES
    assert found.same == SAME


def test_B46_a_file_of_python_2_is_read():
    found = read_bin(PYTHON_2, name="lfw.bin")
    assert found.images == [*IMAGES[:3], b"third"]
    assert found.same == SAME
    assert read_bin(PROTOCOL_0_TRUTH, name="lfw.bin").same == [True]


def test_an_image_in_two_pairs_is_stored_once_and_read_twice():
    image = b"the same object"
    found = read_bin(pickle.dumps(([image, b"a", image, b"b"], [True, True])), name="lfw.bin")
    assert found.images == [image, b"a", image, b"b"]


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_B46_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, protocol):
    target = tmp_path / "made"
    data = pickle.dumps(([b"a", _Malicious(target)], [True]), protocol=protocol)
    message = refusal(data)
    assert "not executed" in message
    assert not target.exists()
    pickle.loads(data)
    assert target.exists()  # it would have been


@pytest.mark.parametrize("value", [
    (["text", "text"], [True]),
    ([b"a", b""], [True]),
    ([b"a", b"b"], ["yes"]),
    ([b"a", b"b"], [2]),
    ({"a": 1}, [True]),
    [b"a", b"b", b"c"],
    None,
    ([1.5, b"b"], [True]),
])  # fmt: skip
def test_B46_other_content_is_refused(value):
    refusal(pickle.dumps(value))


@pytest.mark.parametrize(("images", "same"), [(3, 1), (4, 1), (2, 2), (0, 0)])
def test_B46_odd_numbers_of_images_are_refused(images, same):
    message = refusal(pickle.dumps(([b"a"] * images, [True] * same)))
    assert f"got {images} images for {same} pairs" in message


@pytest.mark.parametrize("protocol", [2, 4])
def test_B46_a_file_cut_anywhere_is_refused(protocol):
    whole = pickle.dumps((IMAGES, SAME), protocol=protocol)
    for kept in range(len(whole)):
        refusal(whole[:kept])


def test_B46_text_and_noise_are_refused():
    for data in (b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(range(256))):
        refusal(data)


@pytest.mark.parametrize("protocol", [2, 4])
def test_B46_damage_anywhere_is_refused_or_gives_images_and_truth_values(protocol):
    whole, draw = pickle.dumps((IMAGES, SAME), protocol=protocol), random.Random(0)
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            found = read_bin(bytes(damaged), name="lfw.bin")
        except DataError:
            continue
        assert len(found.images) == 2 * len(found.same)
        assert all(isinstance(image, bytes) for image in found.images)
