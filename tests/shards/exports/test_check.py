"""A folder is compared with its manifest; all differences are reported at once, also without this package."""
# ruff: noqa: N802

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shards.exports import standalone_verify
from shards.exports.check import check
from shards.tars.manifest import NAME, Manifest, describe_file, describe_shard, manifest_bytes, read_manifest

from ..pictures import write_tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published folder: three tars, a card, the verifier and the manifest."""
    shards = [
        describe_shard(write_tar(tmp_path / f"synthetic-{number}.tar", [(f"{number}", "a")]), samples=1)
        for number in range(3)
    ]
    (tmp_path / "README.md").write_text("card")
    shutil.copy(standalone_verify.__file__, tmp_path / "verify.py")
    files = [describe_file(tmp_path / name, folder=tmp_path) for name in ("README.md", "verify.py")]
    (tmp_path / NAME).write_bytes(manifest_bytes(Manifest.of(shards, private=False, files=files)))
    return tmp_path


def verify(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verifier as a recipient of the set does: without this package or any installed one."""
    command = [sys.executable, "-I", "-S", str(folder / "verify.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def differences(folder: Path) -> list[str]:
    return check(folder, read_manifest(folder / NAME))


def test_an_untouched_folder_has_no_differences(folder):
    assert differences(folder) == []
    assert (verify(folder).returncode, verify(folder).stderr) == (0, "")


def damage(folder: Path) -> None:
    tars = [folder / f"synthetic-{number}.tar" for number in range(3)]
    tars[0].write_bytes(tars[0].read_bytes()[:-1])
    tars[1].write_bytes(tars[1].read_bytes()[:-1] + b"x")
    tars[2].rename(folder / "renamed.tar")
    write_tar(folder / "extra.tar", [("9", "b")])
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")


DIFFERENCES = [
    "README.md: not a regular file",
    "extra.tar: not in the manifest",
    "renamed.tar: not in the manifest",
    "synthetic-0.tar: 10239 bytes, expected 10240",
    "synthetic-1.tar: sha256 ",
    "synthetic-2.tar: missing",
]


def test_B41_all_differences_are_listed_at_once(folder):
    damage(folder)
    for found in (differences(folder), verify(folder).stdout.splitlines()):
        assert len(found) == len(DIFFERENCES)
        assert all(line.startswith(start) for line, start in zip(found, DIFFERENCES, strict=True))


def test_the_verifier_fails_when_anything_differs_and_takes_a_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(folder / "verify.py", elsewhere)
    assert verify(elsewhere, str(folder)).returncode == 0
    damage(folder)
    assert verify(elsewhere, str(folder)).returncode == 1
    assert verify(folder).returncode == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"shards": [{}]}', '{"shards": 1}', "\xff"])
def test_the_verifier_reports_a_broken_manifest_in_one_line(folder, text):
    (folder / NAME).write_text(text, encoding="latin-1")
    done = verify(folder)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a\\b"])
def test_the_verifier_does_not_leave_its_folder(folder, name):
    manifest = json.loads((folder / NAME).read_text())
    manifest["files"].append({"name": name, "bytes": 1, "sha256": "0" * 64})
    assert standalone_verify.differences(folder, manifest) == [f"{name!r}: unsafe name"]


def test_the_verifier_is_python_3_8_and_imports_the_standard_library_only():
    tree = ast.parse(Path(standalone_verify.__file__).read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
