"""YAML of config files: scalars are what they look like, and whatever is ambiguous or unsafe is refused in one line."""
# ruff: noqa: N802

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.frame.config_file.yaml_file import parse_yaml, read_yaml
from jobs.frame.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-3", -3),
        ("0", 0),
        ("0644", "0644"),
        ("12:00:00", "12:00:00"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("", None),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("2026-11-22", "2026-11-22"),
        ("'1'", "1"),
        ("=", "="),
    ],
)
def test_B47_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    found = parse_yaml(f"field: {text}", source="x")["field"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "line 2: a: given twice; remove one"),
        ("s: {b: 1, b: 2}", "line 1: b: given twice"),
        ("1: 1\n'1': 2", "line 2: 1: given twice"),
        ("a: &x [1]\nb: *x", "line 2: aliases are not allowed"),
        ("a: !!python/object/apply:os.system [id]", "tags are not allowed"),
        ("a: !!binary aGk=", "tags are not allowed"),
        ("a: !!set {b}", "tags are not allowed"),
        ("a: ! b", "tags are not allowed"),
        ("a:\t1", "line 1 not YAML"),
        ("a:\n\tb: 1", "line 2 not YAML"),
        ("a: [1", "not YAML"),
        ("a: 1\n---\nb: 2", "line 2 not YAML"),
        ("? [a]\n: 1", "line 1: a key must be a plain word"),
        ("a: \0", "character #x00"),
        ("a: " + "[" * 5000, "nested more than 20 levels"),
        ("a: 1e999", "line 1: got 1e999"),
        ("a: 1" + "0" * 5000, "line 1: got 1000"),
        ("", "got nothing at the top"),
        ("# only a comment", "got nothing at the top"),
        ("- a\n- b", "got list at the top"),
        ("text", "got str at the top"),
    ],
)
def test_B47_ambiguous_or_unsafe_yaml_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_B47_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: bom\n")
    assert read_yaml(path) == {"name": "bom"}


@pytest.mark.parametrize(
    ("content", "message"), [("name: x".encode("utf-16"), "not UTF-8"), (b"#" * (1 << 20 | 1), "allowed are 1048576")]
)
def test_B47_files_that_are_no_config_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "missing.yaml")
