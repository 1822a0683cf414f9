"""The whole chain on a tiny run: outputs, what a second launch leaves alone, and what it redoes."""
# ruff: noqa: N802

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset

from jobs.frame.experiment import load_run
from jobs.methods.cemiface.generate.plan import STAGE as GENERATE
from shards.tars.index import index_path, read_index
from shards.tars.shard_set import ShardSet

from .commands import Project, flip_a_bit
from .conftest import CHAIN

STRAY = {
    "SLURM_JOB_ID": "99",
    "SLURM_NTASKS": "7",
    "SLURM_PROCID": "3",
    "SLURM_ARRAY_TASK_ID": "5",
    "RANK": "4",
    "WORLD_SIZE": "9",
    "LOCAL_RANK": "2",
    "MASTER_PORT": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "LANG": "C",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "17",
}


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


@pytest.fixture(scope="module")
def finished(tiny_run: Any) -> Project:
    """The finished run itself: only to be read."""
    return Project(root=tiny_run.config.parent.parent)


def test_every_stage_has_a_summary_whose_counts_add_up(finished: Project) -> None:
    for stage in CHAIN:
        summary = finished.summary(stage)
        markers = [json.loads(path.read_text()) for path in (finished.runs / stage / "done").glob("*.json")]
        assert summary["units"] == len(markers), stage
        assert sum(summary["counts"].values()) == summary["images_in"], stage
        if stage not in ("identities", "audit"):  # which choose some of what their units made
            assert sum(marker["images"] for marker in markers) == summary["images_out"], stage


def test_F29_the_number_of_files_does_not_grow_with_the_images(finished: Project) -> None:
    for stage in ("shard", "generate"):
        files = [path for path in (finished.runs / stage).iterdir() if path.is_file()]
        assert len([path for path in files if path.suffix == ".tar"]) == finished.summary(stage)["units"]
        assert {path.suffix for path in files} <= {".tar", ".npz", ".json"}
        assert len(files) <= 2 * finished.summary(stage)["units"] + 4  # a tar and its index, and the stage's own


def test_every_tar_has_an_index_that_equals_a_scan(finished: Project, tmp_path: Path) -> None:
    tars = [path for path in finished.runs.rglob("*.tar") if "superseded" not in path.parts]
    kinds = {path.stem.split("-0")[0] for path in tars}
    assert kinds == {"real", "held-out", "candidates", "inquiries", "synthetic"}
    for path in tars:
        index = read_index(index_path(path))
        alone = ShardSet([shutil.copy(path, tmp_path / path.name)])
        assert (index.keys, index.classes) == (alone.keys, list(dict.fromkeys(alone.identities)))
        for row in (0, len(alone) - 1):
            assert index.spans[row][1] == len(alone.jpeg(row))
    recorded = {output["name"] for stage in CHAIN for output in finished.summary(stage)["outputs"]}
    assert {index_path(path).name for path in tars} <= {Path(name).name for name in recorded}


def test_a_finished_run_does_without_the_real_faces(project: Project) -> None:
    shutil.rmtree(project.root / "faces")
    before = project.hashes("**/*")
    done = project.run("all")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("already done") == len(CHAIN)
    assert project.hashes("**/*") == before


def test_F32_times_of_files_from_other_clocks_decide_nothing(project: Project) -> None:
    before = project.hashes("**/*")
    for number, path in enumerate(sorted(project.runs.rglob("*"))):
        year = 365 * 86_400 * (-1) ** number
        os.utime(path, (path.stat().st_atime + year, path.stat().st_mtime + year))
    done = project.run("all")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("already done") == len(CHAIN)
    assert project.hashes("**/*") == before


def test_every_input_image_has_one_outcome(finished: Project) -> None:
    inputs = [path for path in (finished.root / "faces").rglob("*") if path.is_file()]
    shard = finished.summary("shard")
    assert (shard["images_in"], shard["images_out"], shard["counts"]["empty"]) == (len(inputs), len(inputs) - 1, 1)
    assert [line["source"] for line in shard["figures"]["rejected"]] == ["person-0/empty.jpg"]
    generated = finished.summary("generate")["images_out"]
    assert finished.summary("audit")["images_in"] == generated
    published = finished.summary("publish")["counts"]
    assert published["published"] + published["dropped"] == generated


def test_webdataset_reads_every_synthetic_tar(finished: Project) -> None:
    tars = sorted((finished.runs / "generate").glob("synthetic-*.tar"))
    samples = [sample for tar in tars for sample in webdataset.WebDataset(str(tar), shardshuffle=False)]
    records = [json.loads(sample["json"]) for sample in samples]
    assert len(samples) == finished.summary("generate")["images_out"]
    assert len({sample["__key__"] for sample in samples}) == len(samples)
    assert {record["m"] for record in records} == {0.0, 1.0}
    assert len({record["seed"] for record in records}) == len(samples)
    assert all(sample["jpg"][:2] == b"\xff\xd8" for sample in samples)


def test_F43_nothing_in_the_run_folder_is_open_to_others(finished: Project) -> None:
    paths = [finished.runs, *finished.runs.rglob("*")]
    assert [path for path in paths if path.lstat().st_mode & 0o077] == []
    assert not any(stat.S_ISLNK(path.lstat().st_mode) for path in paths)


def test_F45_nothing_unfinished_is_left_behind(finished: Project) -> None:
    names = [path.name for path in finished.runs.rglob(".*")]
    assert [name for name in names if name != ".launch.lock"] == []


def _rows(table: str) -> list[list[str]]:
    """The lines about stages; a long path may fold the title above them."""
    return [line.split() for line in table.splitlines() if line.split()[:1] and line.split()[0] in CHAIN]


def test_status_reads_the_run_folder_and_not_the_faces(project: Project) -> None:
    shutil.rmtree(project.root / "faces")
    status = project.run("status")
    assert status.returncode == 0, status.stderr
    assert [row[:2] for row in _rows(status.stdout)] == [[stage, "done"] for stage in CHAIN]


def test_status_plan_and_logs_of_a_finished_run_change_nothing(finished: Project) -> None:
    before = finished.files()
    status, plan = finished.run("status"), finished.run("plan")
    assert (status.returncode, plan.returncode) == (0, 0)
    assert [row[:2] for row in _rows(status.stdout)] == [[stage, "done"] for stage in CHAIN]
    row = next(line.split() for line in plan.stdout.splitlines() if line.startswith("generate"))
    assert row == ["generate", "identities", "2", "0", "-", "done", "16", "-", "-", "-"]
    assert finished.files() == before


def test_logs_shows_the_end_of_a_ranks_log_unfolded(finished: Project) -> None:
    log = finished.runs / "train-diffusion" / "logs" / "00000.log"
    shown = finished.run("logs", "train-diffusion", "--rank", "0", "--lines", "2", COLUMNS="40")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines() == [str(log), *log.read_text().splitlines()[-2:]]
    missing = finished.run("logs", "shard", "--rank", "7")
    assert missing.returncode == 1
    assert "no log of shard rank 7" in missing.stderr


def test_a_second_launch_redoes_nothing(project: Project) -> None:
    before = project.files()
    done = project.run("all")
    assert done.returncode == 0, done.stderr
    assert [f"{stage}: already done" in done.stderr for stage in CHAIN] == [True] * len(CHAIN)
    assert project.files() == before


def test_F02_F04_F44_B53_a_launch_rebuilds_only_what_is_missing(project: Project) -> None:
    """A tar gone, a marker gone, the logs gone, and a strange environment: the same bytes, nothing else touched."""
    before = project.files()
    folder = project.runs / "generate"
    (folder / "synthetic-00001.tar").unlink()
    (folder / "done" / "00000.json").unlink()
    shutil.rmtree(folder / "logs")
    status = project.run("status").stdout
    assert "not done" in next(line for line in status.splitlines() if line.startswith("generate"))
    done = project.run("generate", **STRAY)
    assert done.returncode == 0, done.stderr
    after = project.files()
    assert after["generate/synthetic-00001.tar"][1] == before["generate/synthetic-00001.tar"][1]
    assert (
        after["generate/synthetic-00000.tar"] == before["generate/synthetic-00000.tar"]
    )  # equal bytes: kept as it was
    outside = {name for name in before if not name.startswith("generate/")}
    assert {name: after[name] for name in outside} == {name: before[name] for name in outside}
    everything = project.run("status").stdout
    assert everything.count(" done ") == len(CHAIN)


def test_F05_verify_finds_a_flipped_bit_and_a_missing_file(project: Project) -> None:
    whole = project.run("verify")
    assert whole.returncode == 0, whole.stdout
    assert whole.stdout.splitlines()[-1] == "tiny-set: every picture says that it is synthetic; unsigned"
    flip_a_bit(project.runs / "generate" / "synthetic-00001.tar")
    (project.runs / "embed" / "embeddings.h5").unlink()
    damaged = project.run("verify")
    assert damaged.returncode == 1
    problems = [line for line in damaged.stdout.splitlines() if ": " in line]
    assert len(problems) == 2
    assert any("generate/synthetic-00001.tar: sha256 is" in problem for problem in problems)
    assert any("embed/embeddings.h5: No such file" in problem for problem in problems)


def test_F06_an_edited_field_makes_its_stage_and_what_follows_stale(project: Project) -> None:
    before = project.hashes("generate/*.tar")
    status = {
        line.split()[0]: line for line in project.run("status", "generate.steps=3").stdout.splitlines()[2:] if line
    }
    assert "stale: generate.steps 2 -> 3" in status["generate"]
    assert "made from an earlier version of generate" in status["train-recognition"]
    assert " done " in status["identities"]

    done = project.run("generate", "generate.steps=3")
    assert done.returncode == 0, done.stderr
    assert project.hashes("generate/*.tar") != before
    kept = project.hashes("generate/superseded/*/*.tar")
    assert {Path(name).name: content for name, content in kept.items()} == {
        Path(name).name: content for name, content in before.items()
    }
    status = {
        line.split()[0]: line for line in project.run("status", "generate.steps=3").stdout.splitlines()[2:] if line
    }
    assert " done " in status["generate"]
    for stage in ("train-recognition", "evaluate", "audit", "publish", "report"):
        assert " stale " in status[stage], stage

    # With the old file, the new outputs are the stale ones: nothing is made from them.
    refused = project.run("audit")
    assert refused.returncode == 1
    assert "audit: needs the stage generate, which is not finished (stale: generate.steps 3 -> 2)" in refused.stderr


def test_F06_another_tar_size_does_not_conflict_with_older_tars(project: Project) -> None:
    """Unit 1 was the second tar of real faces and now is the held-out one, which was unit 2."""
    before = project.hashes("shard/*.tar")
    done = project.run("shard", "shard.shard_images=40")
    assert done.returncode == 0, done.stderr
    assert sorted(project.hashes("shard/*.tar")) == ["shard/held-out-00000.tar", "shard/real-00000.tar"]
    kept = project.hashes("shard/superseded/**/*.tar")
    assert sorted(kept.values()) == sorted(before.values())
    assert project.summary("shard")["images_out"] == 48


def test_F07_the_tars_are_the_same_for_any_number_of_ranks(project: Project, tmp_path: Path) -> None:
    project.forget("generate")
    cut = "generate.identities_per_shard=1"
    tars = []
    for ranks in (1, 2, 3):
        done = project.run("generate", cut, cluster=f"array: {{ranks: {ranks}}}")
        assert done.returncode == 0, done.stderr
        markers = [json.loads(path.read_text()) for path in (project.runs / "generate" / "done").glob("*.json")]
        assert {marker["worker"]["rank"] for marker in markers} == set(range(ranks))
        tars.append((project.hashes("generate/*.tar"), project.summary("generate")["outcome"]))
        project.runs.joinpath("generate").rename(tmp_path / f"with-{ranks}-ranks")
    assert len(tars[0][0]) == 4
    assert tars[0] == tars[1] == tars[2]


def test_no_more_ranks_than_the_limit_work_at_once_on_this_machine(project: Project) -> None:
    project.forget("generate")
    done = project.run("generate", "generate.identities_per_shard=1", cluster="array: {ranks: 3, parallel: 1}")
    assert done.returncode == 0, done.stderr
    markers = [json.loads(path.read_text()) for path in (project.runs / "generate" / "done").glob("*.json")]
    spans = sorted((marker["started"], marker["ended"], marker["worker"]["rank"]) for marker in markers)
    assert {rank for _, _, rank in spans} == {0, 1, 2}
    assert all(ended <= started for (_, ended, _), (started, _, _) in itertools.pairwise(spans))


def test_a_stage_whose_input_was_never_made_is_refused(project: Project) -> None:
    project.forget("identities")
    refused = project.run("generate")
    assert refused.returncode == 1
    assert "generate: needs the stage identities, which is not finished (not done)" in refused.stderr


def test_F43_a_run_folder_that_is_a_symlink_is_refused(project: Project) -> None:
    elsewhere = project.root / "elsewhere"
    project.runs.rename(elsewhere)
    project.runs.symlink_to(elsewhere)
    refused = project.run("all")
    assert refused.returncode == 1
    assert "is not a plain folder (a symlink?)" in refused.stderr


def test_the_published_folder_checks_itself_with_plain_python(finished: Project, tmp_path: Path) -> None:
    folder = tmp_path / "anywhere" / "set"
    shutil.copytree(finished.runs / "publish" / "tiny-set", folder)
    command = [sys.executable, "-I", "-S", str(folder / "verify.py")]
    whole = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={})
    assert whole.returncode == 0, whole.stdout + whole.stderr
    flip_a_bit(folder / "synthetic-00000.tar")
    (folder / "README.md").unlink()
    shutil.copy(finished.runs / "shard" / "real-00000.tar", folder / "real-00000.tar")
    damaged = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={})
    assert damaged.returncode == 1
    found = sorted(line.partition(":")[0] for line in damaged.stdout.splitlines())
    assert found == ["README.md", "real-00000.tar", "synthetic-00000.tar"]


def test_the_published_folder_holds_nothing_of_the_real_faces(finished: Project) -> None:
    folder = finished.runs / "publish" / "tiny-set"
    tars = sorted(folder.glob("*.tar"))
    assert [path.name for path in tars] == ["synthetic-00000.tar", "synthetic-00001.tar"]
    texts = [path.read_text() for path in folder.iterdir() if path.suffix in {".md", ".json", ".txt", ".py"}]
    for path in tars:
        with tarfile.open(path) as tar:
            members = [tar.extractfile(member) for member in tar if member.name.endswith(".json")]
            texts += [member.read().decode() for member in members if member]
    assert len(texts) > 16
    found = [
        word for word in ("person-", str(finished.root), os.uname().nodename) if any(word in text for text in texts)
    ]
    assert found == []
    real = {line["sha256"] for line in finished.summary("shard")["outputs"]}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["private"] is False
    assert real.isdisjoint(shard["sha256"] for shard in manifest["shards"])


def test_publish_refuses_a_set_whose_audit_failed(project: Project) -> None:
    strict = ("audit.false_alarms=0.99", "audit.max_dropped_fraction=0")
    for stage in ("audit", "settle"):
        judged = project.run(stage, *strict)
        assert judged.returncode == 0, judged.stderr
        assert project.summary(stage)["figures"]["passed"] is False
    refused = project.run("publish", *strict)
    assert refused.returncode == 1
    assert "publish: the audit failed:" in refused.stderr
    assert "request other values in `generate`" in refused.stderr


def test_units_and_ranks_of_the_plan_do_not_depend_on_each_other(finished: Project) -> None:
    config = finished.root / "configs" / "tiny.yaml"
    units = load_run(config).ledger.units(GENERATE)
    assert [unit.tar for unit in units] == ["synthetic-00000.tar", "synthetic-00001.tar"]
    assert [(unit.first, unit.last) for unit in units] == [(0, 1), (2, 3)]
