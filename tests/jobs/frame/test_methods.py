"""Names of identities and images, and how a method is found: built in, or by an entry point of a package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.frame.method import ImageRequest, identity_name, identity_number
from jobs.frame.methods import BUILT_IN, find_method


@pytest.mark.parametrize(("identity", "name"), [(0, "synthetic-000000"), (1_234_567, "synthetic-1234567")])
def test_the_name_of_an_identity_has_its_number(identity: int, name: str) -> None:
    assert identity_name(identity) == name
    assert identity_number(name) == identity


@pytest.mark.parametrize(
    ("identity", "index", "key"), [(0, 0, "000000-000"), (12, 3, "000012-003"), (1_234_567, 1000, "1234567-1000")]
)
def test_the_key_of_an_image_has_identity_and_index(identity: int, index: int, key: str) -> None:
    assert ImageRequest(identity=identity, index=index).key == key


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_method_is_found_by_its_name(name: str) -> None:
    assert find_method(name).name == name


def test_an_unknown_method_is_refused_in_one_line_with_the_names_there_are(tmp_path: Path) -> None:
    config = tmp_path / "chain.yaml"
    config.write_text("name: chain\nmethod: paint\n")
    with pytest.raises(ConfigError) as error:
        load_run(config)
    assert "method: got 'paint', allowed: cemiface" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a method that a package on the path brings; the package is gone after the test."""
    metadata = tmp_path / "some_method-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-method\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[cemiface.methods]\nsome = some_method:METHOD\n")
    (tmp_path / "some_method.py").write_text(
        "from dataclasses import replace\n"
        "from jobs.frame.methods import find_method\n"
        "METHOD = replace(find_method('cemiface'), name='some')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "some"
    find_method.cache_clear()
    sys.modules.pop("some_method", None)


def test_an_installed_method_is_found_by_its_entry_point(installed: str, tmp_path: Path) -> None:
    assert find_method(installed).name == "some"
    config = tmp_path / "chain.yaml"
    config.write_text(f"name: chain\nmethod: {installed}\n")
    assert load_run(config).method.name == installed


def test_the_names_of_installed_methods_are_listed_too(installed: str) -> None:
    with pytest.raises(ConfigError, match=f"allowed: cemiface.*{installed}"):
        find_method("paint")
