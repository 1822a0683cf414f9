"""A published set travels: verified with a bare Python, imported, trained on by name, exported."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset
from rich.console import Console

from jobs import VERSION
from jobs.command.sets.import_set import import_set
from shards.errors import DataError
from shards.images.source_mark import SHEET, SOURCE_TYPE, SourceMark, mark_of, without_mark
from shards.tars.manifest import Manifest, describe_shard, manifest_bytes, read_manifest
from shards.tars.reader import OpenTar, read_tar
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter

from ...shards.pictures import jpeg
from ..commands import PROJECT, Project, flip_a_bit, sha256
from ..conftest import RECIPE


@pytest.fixture
def published(tiny_run: Any, tmp_path: Path) -> Path:
    """A copy of the published folder, on another disk so to speak."""
    return Path(shutil.copytree(tiny_run.folder / "publish" / "tiny-set", tmp_path / "disk" / "tiny-set"))


def command(*arguments: str, cwd: Path) -> Any:
    """`cemiface` in a folder without a project."""
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(PROJECT), "COLUMNS": "250", "PATH": "/usr/bin:/bin"},
        check=False,
    )


def bare_python(*arguments: str) -> Any:
    """A Python that knows the standard library only: no site packages, no environment."""
    return subprocess.run([sys.executable, "-I", "-S", *arguments], capture_output=True, text=True, env={}, check=False)


def test_verify_py_passes_in_another_folder_and_names_the_shard_of_one_flipped_bit(published: Path) -> None:
    whole = bare_python(str(published / "verify.py"))
    assert (whole.returncode, whole.stderr) == (0, "")
    assert "2 tars and all other files are as published; every picture says that it is synthetic" in whole.stdout
    flip_a_bit(published / "synthetic-00001.tar")
    damaged = bare_python(str(published / "verify.py"))
    assert damaged.returncode == 1
    assert damaged.stdout.startswith("synthetic-00001.tar: sha256 ")
    assert len(damaged.stdout.splitlines()) == 1


def test_the_published_folder_reveals_nothing_of_the_cluster_and_of_real_people(tiny_run: Any, published: Path) -> None:
    private = [str(tiny_run.folder.parent.parent), "person-", '"0000000']
    for path in published.iterdir():
        if path.suffix not in (".tar", ".jpg"):
            assert [word for word in private if word.encode() in path.read_bytes()] == [], path.name
    audit = json.loads((published / "audit.json").read_text())
    assert audit["passed"] is True
    assert "leaks" not in audit
    manifest = read_manifest(published / "manifest.json")
    assert audit["judged"].keys() == {shard.name for shard in manifest.shards}


def test_every_published_picture_says_that_it_is_synthetic_and_exports_keep_that(
    published: Path, tmp_path: Path
) -> None:
    samples = [sample for tar in sorted(published.glob("*.tar")) for sample in read_tar(tar)]
    assert all(mark_of(one.jpg) == SourceMark(version=VERSION, seed=3, key=one.key) for one in samples)
    assert mark_of((published / "samples.jpg").read_bytes()) == SourceMark(version=VERSION, seed=3, key=SHEET)
    done = command("export", str(published), "--as", "recordio", "--to", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "train.rec").read_bytes().count(SOURCE_TYPE.encode()) == len(samples)


def test_a_picture_whose_mark_was_stripped_is_named_even_if_the_manifest_was_written_again(
    published: Path, tmp_path: Path
) -> None:
    """By the folder's own program, and by an import, which leaves nothing behind."""
    tar = published / "synthetic-00001.tar"
    samples = list(read_tar(tar))
    with tar.open("wb") as file:
        writer = TarWriter(file)
        for sample in samples:
            writer.add(sample.key, jpg=without_mark(sample.jpg), record=sample.record)
        writer.close()
    manifest = read_manifest(published / "manifest.json")
    shards = [describe_shard(published / one.name, samples=one.samples) for one in manifest.shards]
    again = Manifest.of(shards, private=False, files=manifest.files, version=manifest.format)
    (published / "manifest.json").write_bytes(manifest_bytes(again))
    line = "synthetic-00001.tar: 8 of 8 pictures do not say that they are synthetic (first: 000002-000.jpg)"
    assert bare_python(str(published / "verify.py")).stdout.splitlines() == [line]
    refused = command("import", str(published), cwd=tmp_path)
    assert refused.returncode == 1
    assert line in refused.stdout
    assert not (tmp_path / "sets" / "tiny-set").exists()


def test_the_shard_list_and_the_index_lead_to_every_image(published: Path) -> None:
    names = (published / "shards.txt").read_text().splitlines()
    index = json.loads((published / "index.json").read_text())["shardlist"]
    assert [shard["url"] for shard in index] == names
    for shard in index:
        path = published / shard["url"]
        assert sum(1 for _ in webdataset.WebDataset(str(path), shardshuffle=False)) == shard["nsamples"]
        assert path.stat().st_size == shard["filesize"]


def test_mlcroissant_accepts_the_metadata_and_reads_the_images_by_it(published: Path, tmp_path: Path) -> None:
    """The validator of the format itself: no error, no warning, and every image with its record."""
    code = (
        "import sys, json, mlcroissant\n"
        "dataset = mlcroissant.Dataset(jsonld=sys.argv[1])\n"
        "issues = dataset.metadata.ctx.issues\n"
        "print(json.dumps([sorted(issues.errors), sorted(issues.warnings)]))\n"
        "print(json.dumps([row['images/key'].decode() for row in dataset.records('images')]))\n"
        "rows = list(dataset.records('records'))\n"
        "print(json.dumps({row['records/key'].decode(): json.loads(row['records/record']) for row in rows}))\n"
        "print(json.dumps([row['audit_recall/found'] for row in dataset.records('audit_recall')]))\n"
        "print(json.dumps(dataset.metadata.ctx.conforms_to.value))\n"
    )
    read = subprocess.run(
        [sys.executable, "-c", code, str(published / "croissant.json")],
        capture_output=True,
        text=True,
        env={"CROISSANT_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert read.returncode == 0, read.stderr[-2000:]
    issues, images, records, found, version = (json.loads(line) for line in read.stdout.splitlines()[-5:])
    assert issues == [[], []]
    assert "WARNING" not in read.stderr.upper()
    assert version == "http://mlcommons.org/croissant/1.1"
    planted = json.loads((published / "audit.json").read_text())["figures"]["planted"]["by_alteration"]
    assert found == [one["found"] for one in planted.values()]
    described = json.loads((published / "croissant.json").read_text())
    (own,) = described["prov:wasDerivedFrom"]
    assert own["sc:description"] == "30 images, 5 identities. Audit: held against"
    assert {"shard", "generate", "audit", "settle"} <= {one["prov:label"] for one in described["prov:wasGeneratedBy"]}
    samples = [sample for tar in sorted(published.glob("*.tar")) for sample in read_tar(tar)]
    assert sorted(images) == [sample.key for sample in samples]
    assert records == {sample.key: sample.record for sample in samples}


def test_hugging_face_datasets_loads_the_published_folder_as_it_is(published: Path, tmp_path: Path) -> None:
    code = (
        "import sys, datasets\n"
        "rows = datasets.load_dataset(sys.argv[1], split='train', cache_dir=sys.argv[2])\n"
        "print(len(rows), sorted({row['json']['identity'] for row in rows}), rows[0]['jpg'].size)\n"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(published), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        env=offline,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    people = [f"synthetic-{number:06d}" for number in range(4)]
    assert loaded.stdout.splitlines()[-1] == f"16 {people} (16, 16)"


def test_an_import_is_whole_registered_and_done_once(published: Path, tmp_path: Path) -> None:
    first = command("import", str(published), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "16 images in 2 tars, registered in sets; every picture says that it is synthetic" in first.stdout
    copy = tmp_path / "sets" / "tiny-set"
    names = {entry.name for entry in published.iterdir()}
    assert {path.name: sha256(path) for path in copy.iterdir()} == {name: sha256(published / name) for name in names}
    again = command("import", str(published), cwd=tmp_path)
    assert again.returncode == 0
    assert "is registered already" in again.stdout
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["tiny-set"]


def test_a_damaged_copy_lists_files_to_copy_again_and_then_resumes(published: Path, tmp_path: Path) -> None:
    whole = (published / "synthetic-00000.tar").read_bytes()
    flip_a_bit(published / "synthetic-00000.tar")
    (published / "README.md").rename(tmp_path / "README.md")
    damaged = command("import", str(published), cwd=tmp_path)
    assert damaged.returncode == 1
    assert "synthetic-00000.tar: damaged" in damaged.stdout
    assert "README.md: missing" in damaged.stdout
    assert "copy these again and rerun the same command: README.md synthetic-00000.tar" in damaged.stdout
    assert not (tmp_path / "sets" / "tiny-set").exists()
    kept = tmp_path / "sets" / ".tiny-set.importing" / "synthetic-00001.tar"
    before = kept.stat().st_mtime_ns
    (published / "synthetic-00000.tar").write_bytes(whole)
    (tmp_path / "README.md").rename(published / "README.md")
    mended = command("import", str(published), cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr
    assert (tmp_path / "sets" / "tiny-set" / "synthetic-00001.tar").stat().st_mtime_ns == before
    assert bare_python(str(tmp_path / "sets" / "tiny-set" / "verify.py")).returncode == 0


def test_an_interrupted_transfer_lists_what_is_missing_and_resumes(published: Path, tmp_path: Path) -> None:
    """The files come one after the other, the manifest first or last; the name tells whose copy it is."""
    part = tmp_path / "incoming"
    part.mkdir()
    nothing = command("import", str(part), "--name", "tiny-set", cwd=tmp_path)
    assert nothing.returncode == 1
    assert f"{part}: no manifest.json there; give the folder of a published set" in nothing.stderr
    tar = (published / "synthetic-00000.tar").read_bytes()
    shutil.copy(published / "manifest.json", part)
    (part / "synthetic-00000.tar").write_bytes(tar[:5000])
    cut = command("import", str(part), "--name", "tiny-set", cwd=tmp_path)
    assert cut.returncode == 1
    assert f"synthetic-00000.tar: damaged, 5000 bytes of {len(tar)}" in cut.stdout
    assert "synthetic-00001.tar: missing" in cut.stdout
    remedy = "copy these again and rerun the same command: LICENSE.txt README.md"
    assert f"{part}: is incomplete or damaged; {remedy}" in cut.stdout
    shutil.copytree(published, part, dirs_exist_ok=True)
    whole = command("import", str(part), "--name", "tiny-set", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert bare_python(str(tmp_path / "sets" / "tiny-set" / "verify.py")).returncode == 0


def test_private_shards_and_other_sets_of_the_name_are_not_imported(published: Path, tmp_path: Path) -> None:
    assert command("import", str(published), cwd=tmp_path).returncode == 0
    manifest = json.loads((published / "manifest.json").read_text())
    (published / "manifest.json").write_text(json.dumps(manifest | {"private": True}))
    refused = command("import", str(published), cwd=tmp_path)
    assert refused.returncode == 1
    assert "is marked private" in refused.stderr
    (published / "manifest.json").write_text(json.dumps(manifest | {"files": []}))
    other = command("import", str(published), cwd=tmp_path)
    assert other.returncode == 1
    assert "is another set with this name; give this set another name with --name" in other.stderr


def a_set(folder: Path, samples: list[dict[str, Any]], *, private: bool) -> Path:
    """A folder with a tar of these records, `private` in its headers or not, and a manifest that says it is public."""
    folder.mkdir(parents=True)
    with (folder / "faces-00000.tar").open("wb") as file:
        tar = TarWriter(file, private=private)
        for row, record in enumerate(samples):
            tar.add(f"{row:06d}", jpg=jpeg(row, size=16), record=record)
        tar.close()
    shard = describe_shard(folder / "faces-00000.tar", samples=len(samples))
    (folder / "manifest.json").write_bytes(manifest_bytes(Manifest.of([shard], private=False)))
    return folder


def refused_as_real(folder: Path, *, cwd: Path, because: str) -> None:
    """Neither imported nor exported, and nothing of it is left behind."""
    for arguments in (("import", str(folder)), ("export", str(folder), "--as", "folders", "--to", "out")):
        refused = command(*arguments, cwd=cwd)
        assert refused.returncode == 1, arguments
        assert "holds real faces: " in refused.stderr
        assert because in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert not list((cwd / "sets").iterdir())
    assert not (cwd / "out").exists()


def test_the_shards_of_a_run_are_private_whatever_their_manifest_says(tiny_run: Any, tmp_path: Path) -> None:
    of_the_run = shutil.ignore_patterns("beats", "done", "lists", "logs", "plan.json", "summary.json", "*.npz")
    folder = Path(shutil.copytree(tiny_run.folder / "shard", tmp_path / "disk" / "faces", ignore=of_the_run))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["private"] is True
    (folder / "manifest.json").write_text(json.dumps(manifest | {"private": False}))
    for tar in folder.glob("*.tar"):
        assert {record["origin"] for record in ShardSet([tar]).records()} == {"real"}
        with OpenTar(tar) as opened:
            assert list(opened.scan())
            assert opened.marked_private
    refused_as_real(folder, cwd=tmp_path, because="the record of 000000")


@pytest.mark.parametrize(
    ("record", "private", "because"),
    [
        ({"identity": "ann", "source": "ann/1.jpg", "index": 0, "outcome": "kept"}, False, "the record of 000000"),
        ({"identity": "ann", "origin": "real", "file": "ann/1.jpg"}, False, "the record of 000000"),
        ({"identity": "synthetic-000000", "m": 0.5, "origin": "real"}, False, "the record of 000000"),
        ({"identity": "synthetic-000000", "m": 0.5}, True, "its headers have the mark of private tars"),
    ],
    ids=["an older private tar", "an inquiry face", "a renamed one", "records rewritten, headers not"],
)
def test_each_sign_of_real_faces_is_enough(tmp_path: Path, record: dict[str, Any], private: bool, because: str) -> None:
    refused_as_real(a_set(tmp_path / "disk" / "faces", [record], private=private), cwd=tmp_path, because=because)


def test_sets_of_older_versions_without_an_origin_are_imported_and_exported(tmp_path: Path) -> None:
    old = [{"identity": f"synthetic-{row:06d}", "index": 0, "m": 0.5, "seed": 1} for row in range(3)]
    folder = a_set(tmp_path / "disk" / "old-set", old, private=False)
    imported = command("import", str(folder), cwd=tmp_path)
    assert imported.returncode == 0
    assert "unmarked: of an older version, whose pictures do not say that they are synthetic" in imported.stdout
    assert command("export", "old-set", "--as", "folders", "--to", "out", cwd=tmp_path).returncode == 0


def _link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("replace", [_link, _fifo])
@pytest.mark.parametrize("name", ["synthetic-00000.tar", "README.md", "manifest.json"])
def test_only_regular_files_are_imported_and_exported(
    published: Path, tmp_path: Path, name: str, replace: Callable[[Path], None]
) -> None:
    replace(published / name)
    refused = command("import", str(published), cwd=tmp_path)
    assert refused.returncode == 1
    assert name in refused.stdout + refused.stderr
    assert "regular file" in refused.stdout + refused.stderr
    assert not (tmp_path / "sets" / "tiny-set").exists()
    refused = command("export", str(published), "--as", "folders", "--to", "out", cwd=tmp_path)
    assert refused.returncode == 1
    assert name in refused.stderr
    assert "regular file" in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["recordio", "folders", "huggingface"])
def test_an_export_is_whole_or_not_there_and_its_hashes_are_listed(published: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / "out" / form
    done = command("export", str(published), "--as", form, "--to", str(target), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=target, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")
    listed = {line[66:] for line in (target / "SHA256SUMS").read_text().splitlines()}
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == listed | {"SHA256SUMS"}
    again = command("export", str(published), "--as", form, "--to", str(target), cwd=tmp_path)
    assert again.returncode == 1
    assert "exists; give a new folder with --to" in again.stderr


def test_a_damaged_or_unknown_set_is_not_exported(published: Path, tmp_path: Path) -> None:
    flip_a_bit(published / "synthetic-00001.tar")
    damaged = command("export", str(published), "--as", "recordio", "--to", "rec", cwd=tmp_path)
    assert damaged.returncode == 1
    assert "synthetic-00001.tar: sha256" in damaged.stderr
    unknown = command("export", "no-set", "--as", "recordio", "--to", "rec", cwd=tmp_path)
    assert unknown.returncode == 1
    assert "no imported set of this name in sets; import one with" in unknown.stderr
    assert not (tmp_path / "rec").exists()


CONFIG = f"""
name: elsewhere
train-recognition:
  sets: [tiny-set]
{RECIPE}"""


def test_an_imported_set_is_trained_on_by_name_where_nothing_else_is(published: Path, tmp_path: Path) -> None:
    """Another machine: no faces, no E_id, no run; the name in the config and the folder `sets` are enough."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(CONFIG)
    (tmp_path / "configs" / "one_core.yaml").write_text("array: {ranks: 1}\ntrain: {cpus: 1}\n")
    project = Project(root=tmp_path)
    missing = project.run("all")
    assert missing.returncode != 0
    assert "tiny-set: no imported set of this name" in missing.stderr
    assert command("import", str(published), cwd=tmp_path).returncode == 0
    done = project.run("all")
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path / "runs/elsewhere/train-recognition/summary.json").read_text())
    assert (summary["figures"]["images_in_set"], summary["figures"]["classes"]) == (16, 4)


@pytest.mark.parametrize("form", ["recordio", "folders", "huggingface"])
def test_identities_that_are_paths_are_exported_inside_of_the_new_folder(tmp_path: Path, form: str) -> None:
    names = ["../../escaped", str(tmp_path / "escaped"), ".", "line\nfeed", "nul\0", "x" * 5000, "CON", "Ann", "ann"]
    folder = a_set(tmp_path / "disk" / "odd-set", [{"identity": name, "m": 0.5} for name in names], private=False)
    done = command("export", str(folder), "--as", form, "--to", "in/out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "in"}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"out"}
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "in/out", check=False)
    assert checked.returncode == 0


def test_a_set_with_a_file_that_no_manifest_names_is_not_imported(published, tmp_path):
    (published / "numpy.py").write_text("raise SystemExit('run')")
    done = command("import", str(published), cwd=tmp_path)
    assert done.returncode == 1
    assert "numpy.py is not in its manifest" in done.stderr
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize("name", ["numpy.py", "sub/Verify.PY", "sitecustomize.pyc", "a.pth", "json.so"])
def test_a_set_whose_manifest_names_a_program_is_not_imported(published, tmp_path, name):
    folder = shutil.copytree(published, tmp_path / "downloaded")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    entry = {"name": name, "bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"files": [*manifest["files"], entry]}))
    with pytest.raises(DataError, match=rf"its manifest names {name}; allowed of programs: verify.py"):
        import_set(folder, sets=tmp_path / "sets", name=None, console=Console(quiet=True))
    assert not (tmp_path / "sets").exists()
