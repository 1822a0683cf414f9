"""Whatever a manifest does not name is refused: it would be run, read or followed by somebody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.exports import standalone_verify
from shards.exports.check import check, require_nothing_else
from shards.images.faces import is_ignored_name
from shards.tars.manifest import NAME, Manifest, describe_file, describe_shard, manifest_bytes

from ..pictures import write_tar

MAKE = {
    "numpy.py": lambda path: path.write_text("raise SystemExit('run')"),
    "more.TAR": lambda path: path.write_bytes(b""),
    "more.zip": lambda path: path.write_bytes(b""),
    ".hidden": lambda path: path.write_bytes(b""),
    "link.txt": lambda path: path.symlink_to("/etc/passwd"),
    "linked": lambda path: path.symlink_to("/etc"),
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "files/x.py": lambda path: path.write_bytes(b""),
    "line\nfeed": lambda path: path.write_bytes(b""),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    (root / "files").mkdir(parents=True)
    shard = describe_shard(write_tar(root / "a.tar", [("0", "anna")]), samples=1)
    (root / "files" / "card.md").write_text("card")
    (root / "verify.py").write_bytes(Path(standalone_verify.__file__).read_bytes())
    files = [describe_file(root / name, folder=root) for name in ("files/card.md", "verify.py")]
    (root / NAME).write_bytes(manifest_bytes(Manifest.of([shard], private=False, files=files)))
    return root


def manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / NAME).read_bytes())


def verified(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "verify.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", MAKE)
def test_what_no_manifest_names_is_refused_by_its_name(folder, name):
    assert check(folder, manifest(folder)) == []
    require_nothing_else(folder, manifest(folder))
    MAKE[name](folder / name)
    shown = name if name.isprintable() else ascii(name)
    assert check(folder, manifest(folder)) == [f"{shown}: not in the manifest"]
    with pytest.raises(DataError, match="is not in its manifest") as caught:
        require_nothing_else(folder, manifest(folder))
    assert "\n" not in str(caught.value)
    done = verified(folder)
    assert (done.returncode, done.stdout) == (1, f"{shown}: not in the manifest\n")


def test_a_whole_set_is_verified_by_its_own_script(folder):
    done = verified(folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_litter_of_systems_and_file_servers_is_counted_and_no_difference(folder):
    for name in (".DS_Store", "._a.tar", "Thumbs.db", "files/.DS_Store"):
        (folder / name).write_bytes(b"x")
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir" / "a.tar").write_bytes(b"x")
    assert check(folder, manifest(folder)) == []
    require_nothing_else(folder, manifest(folder))
    done = verified(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert " tars and all other files are as published (5 files of the system ignored); " in done.stdout


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, Path.mkdir])
def test_only_regular_files_are_litter(folder, make):
    make(folder / "._a.tar")
    assert check(folder, manifest(folder)) == ["._a.tar: not in the manifest"]


def test_a_listed_file_behind_a_linked_folder_is_refused(folder, tmp_path):
    (folder / "files").rename(tmp_path / "elsewhere")
    (folder / "files").symlink_to(tmp_path / "elsewhere")
    assert check(folder, manifest(folder)) == ["files: not in the manifest"]


@pytest.mark.parametrize("module", ["json", "hashlib", "pathlib", "stat", "typing", "__future__", "os", "re"])
def test_the_script_runs_no_module_that_lies_beside_it(folder, module):
    (folder / f"{module}.py").write_text("print('run')")
    done = verified(folder)
    assert (done.returncode, done.stdout) == (1, f"{module}.py: not in the manifest\n")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"shards": [{"name": "\\ud800"}]}', None])
def test_a_hostile_manifest_is_one_line_for_the_script(folder, content):
    (folder / NAME).unlink()
    if content is None:
        os.mkfifo(folder / NAME)
    else:
        (folder / NAME).write_text(content)
    done = verified(folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("\n") == 1


def test_what_verify_counts_as_litter_is_no_image_of_a_source() -> None:
    for name in (*standalone_verify.LITTER, *standalone_verify.LITTER_FOLDERS):
        assert is_ignored_name(name.encode())
