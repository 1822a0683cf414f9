"""Config files that would stop the command: at most seconds, and one short line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.frame.config_file.fields import read_fields
from jobs.frame.config_file.yaml_file import MAX_BYTES, MAX_VALUES, read_yaml
from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run


@pytest.mark.parametrize(
    "text",
    [
        "a: [" + "b," * 400_000 + "]",
        "a:\n" + "- b\n" * 200_000,
        "".join(f"k{number}: 1\n" for number in range(90_000)),
        "a: {" + "".join(f"k{number}: 1, " for number in range(60_000)) + "}",
        "{" * 400_000,
        "- " * 400_000,
        "? " * 400_000,
        "a: " * 300_000,
        "&a " * 300_000,
        "'" * 900_000,
        'a: "\\UFFFFFFFF"',
        'a: "\\U99999999"',
        f"%YAML {'1' * 5000}.1\n---\na: 1\n",
        "!<%FF> a",
        "k" * 900_000 + ": 1\n" + "k" * 900_000 + ": 1\n",
        "k" * 500 + ": 1\n" + "k" * 500 + ": 1\n",
        "a: 1e99999\n",
        "- 1\n",
    ],
)
def test_a_text_that_is_no_config_file_is_refused_soon_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_limits_are_far_above_any_config(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("".join(f"k{number}: {'x' * 80}\n" for number in range(MAX_VALUES // 2 - 1)))
    assert len(read_yaml(path)) == MAX_VALUES // 2 - 1
    assert path.stat().st_size < MAX_BYTES


def test_a_fifo_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize("base", ['"a\\0b"', '"\\ud800"', "x" * 5000, '"."', '"a\\nb"'])
def test_a_base_that_no_file_can_be_is_one_line(tmp_path: Path, base: str) -> None:
    (tmp_path / "x.yaml").write_text(f"base: {base}\nname: x\n")
    with pytest.raises(ConfigError) as caught:
        read_fields(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("faces", ['"a\\0b"', '"\\ud800"', '"a\\nb"', "[1]"])
def test_faces_that_no_folder_can_be_are_one_line(tmp_path: Path, faces: str) -> None:
    (tmp_path / "x.yaml").write_text(f"name: x\nshard: {{faces: {faces}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_run(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


def test_a_long_row_of_bases_is_one_line(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number}.yaml").write_text(f"base: {number + 1}.yaml\nname: x\n")
    with pytest.raises(ConfigError, match="more than 20 files in a row"):
        read_fields(tmp_path / "0.yaml")
