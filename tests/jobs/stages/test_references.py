"""What the audit compares a set with: all real pictures of the run, and other sets that the user gives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jobs.command.sets.export_fingerprints import export_fingerprints
from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.frame.verdicts import verdict_of
from jobs.stages.audit.planted import planted_copies
from jobs.stages.fingerprint.also import AlsoSet, also_blocks, also_sets
from jobs.stages.fingerprint.plan import FingerprintFaces
from jobs.stages.shared.gate.lineage import imported_lineage, own_faces
from shards.errors import DataError
from shards.images.jpeg import encode_jpeg
from shards.privacy.lineage import DataSet, checked
from shards.privacy.verdict import Verdict
from shards.tars.shard_set import ShardSet
from slurm.errors import RunError

from ..commands import flip_a_bit, sha256
from ..one_rank import edit_config, plan_stage, work_alone
from ..planted import plant

FIRST, SECOND = "000000-000", "000001-001"  # keys of generated images


def audited(run: Run, *, also: list[dict[str, str]] | None = None) -> Verdict:
    """The verdict after the run's fingerprints, if other sets are given, and its audit were made again."""
    if also is not None:
        edit_config(run.folder.root, fingerprint={"also": also})
        run = load_run_folder(run.folder.root)
        plan_stage(run, "fingerprint")
        work_alone(run, "fingerprint")
    plan_stage(run, "audit")
    run.stage_folder("audit").output("verdict.json").unlink()
    for path in run.stage_folder("audit").root.glob("nearest-*.json"):
        path.unlink()
    work_alone(run, "audit")
    return verdict_of(run)


def reasons(verdict: Verdict, key: str) -> set[str]:
    return {leak.reason for leak in verdict.leaks if leak.key == key}


@pytest.fixture
def other_faces(tmp_path: Path) -> Path:
    """A folder of real people that the run has nothing to do with."""
    draw = np.random.default_rng(11)
    for person in ("ann", "bob"):
        for image in range(3):
            path = tmp_path / "others" / person / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((16, 16)).save(path)
    return tmp_path / "others"


def test_copies_of_held_out_peoples_pictures_are_dropped(copied: Run) -> None:
    held_out = ShardSet(copied.ledger.outputs("shard", prefix="held-out-", suffix=".tar"))
    mirrored = encode_jpeg(np.ascontiguousarray(held_out.rgb(7)[:, ::-1]), quality=100)
    plant(copied, {FIRST: held_out.jpeg(3), SECOND: mirrored})
    verdict = audited(copied)
    assert "exact_pixels" in reasons(verdict, FIRST)
    assert "near_mirrored" in reasons(verdict, SECOND)
    names = {leak.real for leak in verdict.leaks if leak.key == FIRST and leak.reason == "exact_pixels"}
    assert names == {f"held-out/{held_out.keys[3]}"}
    assert verdict.references == 48


def test_a_set_is_held_against_other_images_that_are_given(copied: Run, other_faces: Path) -> None:
    copy = Image.open(other_faces / "bob" / "1.png")
    plant(copied, {FIRST: encode_jpeg(np.asarray(copy), quality=95)})
    assert "near_pixels" not in reasons(audited(copied), FIRST)
    verdict = audited(copied, also=[{"name": "others", "faces": str(other_faces)}])
    assert "near_pixels" in reasons(verdict, FIRST)
    assert {leak.real for leak in verdict.leaks if leak.reason == "near_pixels"} == {"also-00-00000/bob/1.png"}
    with Image.open(copied.stage_folder("audit").output("closest.jpg")) as sheet:
        sheet.load()


def test_a_set_is_held_against_the_fingerprints_of_another_run(copied: Run, tmp_path: Path) -> None:
    """The same net embeds both runs' faces. The file holds numbers in place of names."""
    target = tmp_path / "exported"
    export_fingerprints(copied.folder.root, target=target, console=Console(quiet=True))
    files = sorted(target.glob("*.h5"))
    data = b"".join(file.read_bytes() for file in files)
    real = ShardSet(copied.ledger.outputs("shard", prefix="real-", suffix=".tar"))
    assert not any(name.encode() in data for name in (*real.classes, "person", str(copied.root)))
    verdict = audited(copied, also=[{"name": "theirs", "faces": str(target)}])
    assert verdict.references == 78
    with h5py.File(files[0]) as found:
        assert json.loads(found.attrs["data_set"])["sha256"] == own_faces(copied).sha256


def test_fingerprints_by_another_net_are_refused(copied: Run, tmp_path: Path) -> None:
    export_fingerprints(copied.folder.root, target=tmp_path / "exported", console=Console(quiet=True))
    file = sorted((tmp_path / "exported").glob("*.h5"))[0]
    with h5py.File(file, "r+") as found:
        found.attrs["embedder"] = np.bytes_(b"0123456789abcdef")
    with pytest.raises(DataError, match=r"by the net 0123456789abcdef, the audit's net is \w{16}; export them again"):
        audited(copied, also=[{"name": "theirs", "faces": str(tmp_path / "exported")}])


def test_embeddings_of_another_width_are_refused(copied: Run, tmp_path: Path) -> None:
    export_fingerprints(copied.folder.root, target=tmp_path / "exported", console=Console(quiet=True))
    file = sorted((tmp_path / "exported").glob("*.h5"))[0]
    with h5py.File(file, "r+") as found:
        images = len(found["features"])
        del found["features"]
        found["features"] = np.eye(images, 64, dtype=np.float32)
    with pytest.raises(DataError, match=r"embeddings of 64 numbers, the net's have 32"):
        audited(copied, also=[{"name": "theirs", "faces": str(tmp_path / "exported")}])


def test_another_runs_shard_folder_is_known_by_its_content(copied: Run) -> None:
    folder = copied.stage_folder("shard").root
    verdict = audited(copied, also=[{"name": "another run", "faces": str(folder)}])
    assert verdict.references == 96  # the run's own faces twice
    assert verdict.lineage is not None
    assert [row.held_against for row in verdict.lineage] == ["content"]


def basis(run: Run, wanted: DataSet, **also: str) -> str | None:
    """How faces that are given count as the data set of a net, once they are fingerprinted."""
    edit_config(run.folder.root, fingerprint={"also": [{"name": "theirs", **also}]})
    run = load_run_folder(run.folder.root)
    plan_stage(run, "fingerprint")
    counts = work_alone(run, "fingerprint")["figures"]["also"]
    given = also_sets(run, run.section(FingerprintFaces).also, counts=counts, rehash=True)
    (found,) = checked([wanted], own=DataSet(name="own"), also=given)
    return found.held_against


def test_a_part_of_exported_fingerprints_is_not_the_whole_set(copied: Run, tmp_path: Path) -> None:
    target, wanted = tmp_path / "exported", own_faces(copied)
    export_fingerprints(copied.folder.root, target=target, console=Console(quiet=True))
    assert basis(copied, wanted, faces=str(target)) == "content"
    first, second = sorted(target.glob("*.h5"))
    second.write_bytes(first.read_bytes())
    assert basis(copied, wanted, faces=str(target)) is None


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_fingerprints_that_are_no_regular_file_are_refused_at_once(copied: Run, tmp_path: Path, make: Any) -> None:
    (tmp_path / "exported").mkdir()
    make(tmp_path / "exported" / "fingerprints-00000.h5")
    with pytest.raises(RunError, match=r"fingerprints-00000\.h5: is not a regular file"):
        list(also_blocks(copied, [AlsoSet(name="theirs", faces=str(tmp_path / "exported"))]))


def test_chosen_images_of_another_run_are_not_its_whole_set(copied: Run, tmp_path: Path) -> None:
    folder, wanted = copied.stage_folder("shard").root, own_faces(copied)
    (tmp_path / "one.tsv").write_text("real-00000.tar/000000000.jpg\n")
    assert basis(copied, wanted, faces=str(folder), only=str(tmp_path / "one.tsv")) is None


def test_other_faces_under_the_names_of_another_runs_tars_are_refused(copied: Run, tmp_path: Path) -> None:
    folder, wanted = tmp_path / "other", own_faces(copied)
    shutil.copytree(copied.stage_folder("shard").root, folder)
    tar = folder / "real-00001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"person-", b"nobody-"))
    with pytest.raises(DataError, match=r"real-00001.tar: is not the file that .*manifest.json names"):
        basis(copied, wanted, faces=str(folder))


def test_the_list_of_the_runs_own_tars_is_read_as_it_was_recorded(copied: Run) -> None:
    flip_a_bit(copied.stage_folder("shard").output("manifest.json"))
    with pytest.raises(RunError, match=r"manifest.json: is not the file that was recorded"):
        own_faces(copied)


def test_fingerprints_are_exported_as_they_were_recorded(copied: Run, tmp_path: Path) -> None:
    flip_a_bit(copied.stage_folder("fingerprint").output("real-00001.h5"))
    with pytest.raises(RunError, match=r"real-00001.h5: is not the file that was recorded"):
        export_fingerprints(copied.folder.root, target=tmp_path / "exported", console=Console(quiet=True))
    assert not (tmp_path / "exported").exists()


def test_copies_are_planted_of_the_real_faces_that_were_recorded(copied: Run) -> None:
    flip_a_bit(copied.stage_folder("shard").output("real-00000.tar"))
    with pytest.raises(RunError, match=r"real-00000.tar: is not the file that was recorded"):
        planted_copies(copied, count=1)


@pytest.mark.parametrize(
    ("behind", "names"),
    [
        ([{"data": vars(DataSet(name="web")), "held_against": None}], ["web"]),
        (None, ["unknown origin: imported set "]),
        ([], ["unknown origin: imported set "]),
    ],
)
def test_what_an_imported_set_comes_from_is_inherited(copied: Run, behind: object, names: list[str]) -> None:
    published = copied.stage_folder("publish").output("tiny-set")
    folder = copied.root / "sets" / "theirs"
    shutil.copytree(published, folder)
    record, manifest = (json.loads((folder / name).read_text()) for name in ("audit.json", "manifest.json"))
    data = json.dumps(record | {"lineage": behind}).encode()
    (folder / "audit.json").unlink()
    (folder / "audit.json").write_bytes(data)
    entry = next(file for file in manifest["files"] if file["name"] == "audit.json")
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    digest = sha256(folder / "manifest.json")[:12]  # the set's name is the user's, and cards show the lineage
    found = [one.name.replace(digest, "") for one in imported_lineage(copied, "theirs")]
    assert found == ["imported set ", *names]
    (folder / "audit.json").write_bytes(data[:-1])
    with pytest.raises(RunError, match=r"audit.json: is not the file that was recorded"):
        imported_lineage(copied, "theirs")


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ({"name": "x", "faces": "nowhere"}, r"fingerprint.also: got .*nowhere, no such file or folder"),
        ({"name": "x", "faces": "configs"}, r"configs: no face"),
    ],
)
def test_other_sets_that_are_not_there_are_refused(copied: Run, also: dict[str, str], message: str) -> None:
    (copied.root / "configs").mkdir(exist_ok=True)
    with pytest.raises((DataError, ValueError), match=message):
        audited(copied, also=[also])


def test_one_unusable_image_of_another_set_is_counted_not_fatal(copied: Run, other_faces: Path) -> None:
    (other_faces / "ann" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    audited(copied, also=[{"name": "others", "faces": str(other_faces)}])
    summary: dict[str, Any] = json.loads(copied.stage_folder("fingerprint").summary.read_text())
    assert summary["figures"]["also"] == [{"images": 6, "identities": 2}]
    assert sum(count for outcome, count in summary["counts"].items() if outcome != "fingerprinted") == 1
