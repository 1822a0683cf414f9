"""insightface's benchmark files are read from any pickle protocol; other pickles are refused and never run."""
# ruff: noqa: N802

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.errors import DataError
from shards.sources.benchmarks.bin_file import read_bin

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


PYTHON_2_PROTOCOL_0 = (
    b"(lp0\n(lp1\nS'\\xff\\xd8 first'\np2\naS\"second'\\n \\x00\\x80\\xff\"\np3\nag2\nag3\naa(lp4\nI01\naI00\naa."
)


def test_B46_the_text_protocol_of_python_2_is_read():
    found = read_bin(PYTHON_2_PROTOCOL_0, name="lfw.bin")
    assert found.images == [b"\xff\xd8 first", b"second'\n \x00\x80\xff"] * 2
    assert found.same == SAME
    assert pickle.loads(PYTHON_2_PROTOCOL_0, encoding="bytes") == [found.images, [True, False]]


@pytest.mark.parametrize("line", [b"S'", b"S'a", b"Sa", b"S'\\x'", b"S"])
def test_B46_a_damaged_string_of_python_2_is_refused(line):
    refusal(b"((l" + line + b"\na(lI01\natp0\n.")


def as_arrays(kind: str) -> tuple[Any, Any]:
    """Images and truth values in a form of numpy."""
    images = [np.frombuffer(image, np.uint8) for image in IMAGES]
    objects = np.empty(len(IMAGES), dtype=object)
    objects[:] = IMAGES
    return {
        "arrays of bytes": (images, SAME),
        "an array of truth values": (IMAGES, np.array(SAME)),
        "an array of integers": (IMAGES, np.array([1, 0])),
        "numpy's booleans": (IMAGES, list(np.array(SAME))),
        "numpy's integers": (IMAGES, [np.int64(1), np.uint8(0)]),
        "big-endian integers": (IMAGES, np.array([1, 0], ">i4")),
        "an array of objects": (objects, np.array(SAME)),
        "everything": (images, np.array(SAME, dtype=object)),
    }[kind]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "kind",
    [
        "arrays of bytes",
        "an array of truth values",
        "an array of integers",
        "numpy's booleans",
        "numpy's integers",
        "big-endian integers",
        "an array of objects",
        "everything",
    ],
)
def test_B46_arrays_and_booleans_of_numpy_are_read_without_numpy(kind, protocol):
    found = read_bin(pickle.dumps(as_arrays(kind), protocol=protocol), name="lfw.bin")
    assert (found.images, found.same) == (IMAGES, SAME)


@pytest.mark.parametrize(
    "value",
    [
        ([np.zeros((2, 2), np.uint8), b"b"], [True]),
        ([np.zeros(4, np.float32), b"b"], [True]),
        ([b"a", b"b"], np.array([0.5])),
        ([b"a", b"b"], [np.float64(1)]),
        ([b"a", b"b"], np.array([[True]])),
        ([b"a", b"b"], np.array([7])),
    ],
)
def test_B46_other_arrays_are_refused(value):
    refusal(pickle.dumps(value))


def test_B46_an_array_that_holds_itself_is_refused():
    array = np.empty(2, dtype=object)
    array[:] = [array, array]
    for value in ((array, [True]), ([array, array], [True]), ([b"a", b"b"], array)):
        refusal(pickle.dumps(value))


@pytest.mark.parametrize(
    "function", ["numpy.core.multiarray scalar", "numpy ndarray", "numpy load", "numpy.core.multiarray _reconstruct"]
)
@pytest.mark.parametrize("arguments", [b")", b"I1\n", b"(I1\nI2\nt", b"(cnumpy\nndarray\nI1\nt", b"N"])
def test_B46_other_calls_of_numpy_are_refused(function, arguments):
    module, _, name = function.partition(" ")
    message = refusal(b"c" + module.encode() + b"\n" + name.encode() + b"\n" + arguments + b"Rb.")
    assert "Traceback" not in message


def test_B46_the_refusal_says_how_to_convert():
    message = refusal(pickle.dumps(([b"a", np.float64], [True])))
    assert "not executed" in message
    assert "store pickle.dumps(([bytes(i) for i in images], [bool(s) for s in same])) as the .bin file" in message


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


def test_B46_a_name_that_is_a_nest_of_lists_is_refused_at_once():
    nest = b"\x80\x04]\x94" + b"".join(b"](h%ch%ce\x94" % (n, n) for n in range(60))  # 2**60 elements if printed
    assert "STACK_GLOBAL" in refusal(nest + b"\x8c\x01a\x93.")
