"""Mutated files of every format; `make fuzz MUTATIONS=100000` reads more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from .formats import FORMATS, Format
from .fuzz import fuzz, write_file

FEW = 40  # of each format
SEED = 18


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_gives_a_value_or_the_readers_own_error(name: str) -> None:
    report = fuzz(name, mutations=FEW, seed=SEED)
    assert report.failures == []
    assert report.files == FEW


@pytest.mark.parametrize("name", FORMATS)
def test_the_files_that_are_mutated_can_be_read(name: str, tmp_path: Path) -> None:
    found = []
    for number, files in enumerate(FORMATS[name].seeds()):
        for file, data in files.items():
            path = tmp_path / str(number) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        found.append(_refusal(FORMATS[name], tmp_path / str(number)))
    assert [refusal for refusal in found if refusal and "a is complex" not in refusal] == []  # one seed has no weights


def _refusal(form: Format, folder: Path) -> str | None:
    try:
        form.read(folder)
    except form.errors as error:
        return str(error)
    return None


def test_the_same_seed_and_number_give_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_file("tar", 7, tmp_path / folder, seed=1)
    assert (tmp_path / "a" / "x.tar").read_bytes() == (tmp_path / "b" / "x.tar").read_bytes()
