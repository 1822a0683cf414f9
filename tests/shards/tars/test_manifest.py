"""The manifest lists the files of a set, and is read strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.tars.manifest import NAME, Manifest, describe_file, describe_shard, manifest_bytes, read_manifest

from ..pictures import write_tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three tars, a card and the manifest."""
    shards = [
        describe_shard(write_tar(tmp_path / f"synthetic-{number}.tar", [(f"{number}", "a")]), samples=1)
        for number in range(3)
    ]
    (tmp_path / "README.md").write_text("card")
    files = [describe_file(tmp_path / "README.md", folder=tmp_path)]
    (tmp_path / NAME).write_bytes(manifest_bytes(Manifest.of(shards, private=False, files=files)))
    return tmp_path


def test_a_manifest_is_read_back_as_written_and_counts_its_shards(folder):
    manifest = read_manifest(folder / NAME)
    assert manifest_bytes(manifest) == (folder / NAME).read_bytes()
    assert (manifest.totals.shards, manifest.totals.samples) == (3, 3)
    assert manifest.totals.bytes == sum(path.stat().st_size for path in folder.glob("*.tar"))
    assert manifest.private is False


def edited(folder: Path, **changes: object) -> Path:
    manifest = json.loads((folder / NAME).read_text()) | changes
    (folder / NAME).write_text(json.dumps(manifest))
    return folder / NAME


SHARD = {"name": "a.tar", "bytes": 1, "sha256": "0" * 64, "samples": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "cemiface-manifest-9"}, "format: "),
        ({"private": "no"}, "private: "),
        ({"secret": 1}, "secret: Extra inputs"),
        ({"shards": [SHARD | {"name": "../a.tar"}]}, r"shards\.0\.name: "),
        ({"shards": [SHARD | {"name": "a\n.tar"}]}, r"shards\.0\.name: "),
        ({"shards": [SHARD | {"name": ".a.tar"}]}, r"shards\.0\.name: "),
        ({"shards": [SHARD | {"bytes": -1}]}, r"shards\.0\.bytes: "),
        ({"shards": [SHARD | {"bytes": 1.5}]}, r"shards\.0\.bytes: "),
        ({"shards": [SHARD | {"samples": 0}]}, r"shards\.0\.samples: "),
        ({"shards": [SHARD | {"sha256": "0"}]}, r"shards\.0\.sha256: "),
        ({"shards": [SHARD, SHARD]}, r"a\.tar is listed twice"),
        ({"shards": [SHARD, SHARD | {"name": "A.tar"}]}, r"a\.tar is listed twice"),
        ({"shards": [SHARD | {"name": "a" * 5000}]}, r"shards\.0\.name: "),
        ({"totals": {"shards": 4, "samples": 3, "bytes": 1}}, "totals are"),
    ],
)
def test_an_invalid_manifest_is_refused_in_one_line(folder, changes, words):
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(edited(folder, **changes))
    assert str(folder / NAME) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_and_a_key_twice_are_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_manifest(tmp_path / NAME)
    (tmp_path / NAME).write_text('{"private": true, "private": false}')
    with pytest.raises(DataError, match="'private' appears twice"):
        read_manifest(tmp_path / NAME)


def test_values_are_immutable(folder):
    manifest = read_manifest(folder / NAME)
    with pytest.raises(ValueError, match="frozen"):
        manifest.private = False  # type: ignore[misc]
