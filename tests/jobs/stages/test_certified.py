"""What the privacy gate reads is what was recorded: edits that keep a file's size, links and FIFOs are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.stages.publish.work import passed_verdict
from shards.tars.index import IndexWriter, index_path
from shards.tars.reader import OpenTar
from slurm.errors import RunError

from ..commands import Project, flip_a_bit, sha256
from ..one_rank import edit_config, plan_stage, work_alone

READ = [
    ("fingerprint", "shard/real-00000.tar"),
    ("fingerprint", "shard/held-out-00000.tar"),
    ("audit", "fingerprint/real-00001.h5"),
    ("audit", "fingerprint/centers.h5"),
    ("audit", "fingerprint/probes.h5"),
    ("audit", "fingerprint/held-out-00000.h5"),
    ("audit", "generate/synthetic-00001.tar"),
    ("audit", "train-embedder/recognition.safetensors"),
    ("refill", "audit/verdict.json"),
    ("refill", "generate/synthetic-00001.tar"),
    ("settle", "audit/verdict.json"),
    ("settle", "generate/synthetic-00001.tar"),
    ("publish", "settle/verdict.json"),
    ("publish", "settle/synthetic-00001.tar"),
    ("publish", "settle/synthetic-00001.index.npz"),
]


def work_again(run: Run, stage: str) -> None:
    """Do a stage once more, by a rank that finds nothing done."""
    shutil.rmtree(run.stage_folder(stage).root, ignore_errors=True)
    plan_stage(run, stage)
    work_alone(run, stage)


@pytest.mark.parametrize(("stage", "file"), READ)
def test_a_file_of_which_one_bit_is_another_is_refused_by_name(copied: Run, stage: str, file: str) -> None:
    if stage == "refill":
        edit_config(copied.folder.root, refill={"attempts": 1})
        copied = load_run_folder(copied.folder.root)
    maker = file.partition("/")[0]
    flip_a_bit(copied.folder.root / file)
    with pytest.raises(RunError) as refused:
        work_again(copied, stage)
    assert f"{file}: is not the file that was recorded" in str(refused.value)
    assert str(refused.value).endswith(f"remove it and run `cemiface {maker}` again")
    assert "\n" not in str(refused.value)
    assert not copied.stage_folder(stage).summary.exists()


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("fingerprint", "real-00000.h5"),
        ("fingerprint", "held-out-00000.h5"),
        ("audit", "nearest-synthetic-00000.json"),
        ("audit", "nearest-held-out-00000.json"),
        ("settle", "judged-synthetic-00000.json"),
    ],
)
def test_a_units_result_of_which_one_bit_is_another_is_not_summed_up(copied: Run, stage: str, file: str) -> None:
    markers = copied.ledger.markers(stage)
    flip_a_bit(copied.stage_folder(stage).output(file))
    with pytest.raises(RunError, match=f"{stage}/{file}: is not the file that was recorded"):
        copied.stages[stage].finish(copied, markers)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("replace", [_link, _fifo, _folder])
@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("audit", "generate/synthetic-00000.tar"),
        ("audit", "fingerprint/real-00000.h5"),
        ("settle", "audit/verdict.json"),
        ("publish", "settle/synthetic-00000.tar"),
        ("publish", "settle/synthetic-00000.index.npz"),
    ],
)
def test_what_is_no_regular_file_is_refused(
    copied: Run, stage: str, file: str, replace: Callable[[Path], None]
) -> None:
    replace(copied.folder.root / file)
    with pytest.raises((RunError, OSError), match=f"{file}") as refused:
        work_again(copied, stage)
    assert refused.type is not OSError
    assert not any(copied.stage_folder("publish").root.glob("tiny-set/*")) or stage != "publish"


def test_a_missing_file_is_named_with_the_stage_that_makes_it(copied: Run) -> None:
    copied.stage_folder("audit").output("verdict.json").unlink()
    with pytest.raises(RunError, match=r"audit/verdict.json: is missing; run `cemiface audit` again"):
        work_again(copied, "settle")


def test_an_edited_record_of_an_output_is_refused(copied: Run) -> None:
    """The verdict and its hash in the summary are edited alike; the outcome, which later stages depend on, is not."""
    folder = copied.stage_folder("settle")
    verdict = folder.output("verdict.json")
    before = sha256(verdict)
    flip_a_bit(verdict)
    folder.summary.write_text(folder.summary.read_text().replace(before, sha256(verdict)))
    with pytest.raises(RunError, match=r"settle/summary.json: lists other files than those of its outcome"):
        passed_verdict(copied)


def test_an_index_that_hides_images_hides_none_from_the_audit(copied: Run) -> None:
    tar = copied.stage_folder("generate").output("synthetic-00000.tar")
    with OpenTar(tar) as opened:
        spans, size = list(opened.scan()), opened.bytes
    index = IndexWriter()
    for span in (spans[0], spans[-1]):
        index.add(
            span.key,
            identity="synthetic-000000",
            jpg=(span.jpg_at, span.jpg_bytes),
            json=(span.json_at, span.json_bytes),
        )
    index_path(tar).write_bytes(index.to_bytes(tar_bytes=size))
    work_again(copied, "audit")
    verdict = json.loads(copied.stage_folder("audit").output("verdict.json").read_text())
    assert verdict["images"] == 16


def test_the_command_says_in_one_line_what_was_edited_and_publishes_nothing(tiny_run: Any, tmp_path: Path) -> None:
    """As a user sees it: every leak is struck out of the verdict, in as many bytes."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    project.forget("publish")
    verdict = project.runs / "settle" / "verdict.json"
    text = verdict.read_text()
    edited = re.sub(r'("references": )\d', r"\g<1>9", text, count=1)
    assert edited != text
    verdict.write_text(edited)
    done = project.run("publish")
    assert done.returncode != 0
    line = next(line for line in done.stderr.splitlines() if "settle/verdict.json" in line)
    assert "is not the file that was recorded" in line
    assert "remove it and run `cemiface settle` again" in line
    assert "Traceback" not in done.stderr
    assert not (project.runs / "publish" / "tiny-set").exists()
    verdict.unlink()
    for stage in ("settle", "publish"):
        done = project.run(stage)
        assert done.returncode == 0, done.stderr
    assert verdict.read_text() == text
