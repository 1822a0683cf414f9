"""A synthetic picture says so in its file, by a mark that other programs read and that leaves the pixels alone."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from jobs import SUITE
from shards.exports import standalone_verify
from shards.images.jpeg import decode_rgb
from shards.images.metadata import foreign_segment
from shards.images.outcomes import Outcome
from shards.images.prepare import prepare
from shards.images.rules import ImageRules
from shards.images.source_mark import (
    PACKET,
    SOURCE_TYPE,
    SYSTEM,
    XMP,
    SourceMark,
    mark_of,
    marked,
    says_synthetic,
    without_mark,
)

from ..pictures import encoded, jpeg, picture, with_exif

MARK = SourceMark(version="0.1.0", seed=3, key="000012-003")
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def packet_of(data: bytes) -> bytes:
    """The XMP packet as Pillow finds it."""
    return bytes(Image.open(io.BytesIO(data)).info["xmp"])


def test_other_programs_read_that_the_picture_is_synthetic_and_where_it_is_from() -> None:
    tree = ElementTree.fromstring(packet_of(marked(jpeg(0), MARK)).decode().lstrip("\ufeff"))
    values = {name: value for element in tree.iter() for name, value in element.attrib.items()}
    assert values[f"{IPTC}DigitalSourceType"] == SOURCE_TYPE
    assert (values[f"{IPTC}AISystemUsed"], values[f"{IPTC}AISystemVersionUsed"]) == (SUITE, "0.1.0")
    assert values["{http://purl.org/dc/elements/1.1/}identifier"] == "seed 3 image 000012-003"
    assert SYSTEM == SUITE


@pytest.mark.skipif(
    "CI" not in os.environ and shutil.which("exiftool") is None, reason="needs exiftool (libimage-exiftool-perl)"
)
def test_exiftool_shows_the_source_type(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(marked(jpeg(0), MARK))
    shown = subprocess.run(
        ["exiftool", "-json", "-G1", "-n", "a.jpg"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (values,) = json.loads(shown.stdout)
    assert values["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE
    assert values["XMP-dc:Identifier"] == "seed 3 image 000012-003"


@pytest.mark.parametrize("data", [jpeg(0), encoded(picture(0), "JPEG", progressive=True), with_exif(jpeg(0), b"x")])
def test_the_mark_changes_nothing_else_and_comes_off_again(data: bytes) -> None:
    whole = marked(data, MARK)
    assert whole == marked(data, MARK)
    assert mark_of(whole) == MARK
    assert without_mark(whole) == data
    assert np.array_equal(decode_rgb(whole), decode_rgb(data))
    assert mark_of(data) is None
    assert without_mark(data) == data


def test_a_marked_picture_is_prepared_as_one_without_a_mark() -> None:
    whole = marked(jpeg(0), MARK)
    assert prepare(whole, rules=ImageRules(size=112)) == prepare(jpeg(0), rules=ImageRules(size=112)).__class__(
        outcome=Outcome.KEPT, jpeg=whole
    )
    assert prepare(whole, rules=ImageRules(size=64, resize="center")).outcome is Outcome.CONVERTED


@pytest.mark.parametrize(
    "text",
    [
        PACKET.replace("VERSION", "0.1.0").replace("SEED", "3").replace("KEY", "ann/1"),
        PACKET.replace("VERSION", "private").replace("SEED", "3").replace("KEY", "000012-003"),
        PACKET.replace("VERSION", "0.1.0").replace("SEED", "3").replace("KEY", "000012-003") + "private",
    ],
    ids=["a name", "a word for the version", "more behind the packet"],
)
def test_only_what_this_suite_writes_is_taken_for_its_mark(text: str) -> None:
    content = XMP + text.encode()
    data = jpeg(0)
    other = data[:20] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + data[20:]
    assert mark_of(other) is None
    assert foreign_segment(without_mark(other)) == f"a segment 0xe1 of {len(content) + 2} bytes"


def test_pictures_of_other_generators_are_recognized_in_every_format() -> None:
    packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a b="{SOURCE_TYPE}"/></x:xmpmeta>'.encode()
    composite = packet.replace(b"trainedAlg", b"compositeWithTrainedAlg")
    for kind in ("JPEG", "WEBP"):
        assert says_synthetic(encoded(picture(0), kind, xmp=packet))
        assert says_synthetic(encoded(picture(0), kind, xmp=composite))
        assert not says_synthetic(encoded(picture(0), kind))
    assert not says_synthetic(encoded(picture(0), "PNG"))


def test_the_standalone_verifier_sees_marks_as_the_suite_does() -> None:
    assert standalone_verify.XMP == XMP
    assert standalone_verify.says_synthetic(marked(jpeg(0), MARK))
    assert standalone_verify.says_synthetic(marked(with_exif(jpeg(0), b"x"), MARK))
    for other in (jpeg(0), jpeg(0) + XMP + PACKET.encode(), b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\0\0\xff"):
        assert not standalone_verify.says_synthetic(other)
