"""Private tars are known by the mark in their headers, and by their records, whichever a tool has kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.errors import DataError
from shards.sources.private_tars import why_real
from shards.tars.private import why_private
from shards.tars.reader import OpenTar
from shards.tars.writer import TarWriter

from ..pictures import jpeg


def write(path: Path, *, origin: str, private: bool) -> Path:
    with path.open("wb") as file:
        tar = TarWriter(file, private=private)
        tar.add("000000-000", jpg=jpeg(0), record={"identity": "a", "origin": origin})
        tar.close()
    return path


@pytest.mark.parametrize(
    ("origin", "private", "why"),
    [
        ("synthetic", False, None),
        ("synthetic", True, "the headers of a.tar have the mark of private tars"),
        ("real", False, "a record in a.tar is that of a real face"),
    ],
)
def test_a_mark_or_a_record_is_enough(tmp_path: Path, origin: str, private: bool, why: str | None) -> None:
    path = write(tmp_path / "a.tar", origin=origin, private=private)
    assert why_real(path) == why_real(tmp_path) == why
    with OpenTar(path) as tar:
        assert (why_private(tar) is None) == (why is None)


def test_a_folder_without_tars_holds_none_and_a_damaged_tar_is_an_error(tmp_path: Path) -> None:
    assert why_real(tmp_path) is None
    assert why_real(tmp_path / "faces.zip") is None
    (tmp_path / "a.tar").write_bytes(b"\xff" * 1024)
    with pytest.raises(DataError, match=r"a\.tar"):
        why_real(tmp_path)
