"""The report reads what publish made, if it was made: it is stale once that changed, and only then."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.run import Run
from jobs.launch.stage_work import unfinished_stages

from ..commands import Project


def _edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _as_of_an_older_version(run: Run) -> None:
    """Without the entry of publish among the inputs."""
    folder = run.stage_folder("report")
    for path in (folder.summary, folder.marker(0)):
        value = json.loads(path.read_text())
        del value["fingerprint"]["inputs"]["publish"]
        path.write_text(json.dumps(value))


def _without_numbers(path: Path) -> str:
    """Publishing again takes another time."""
    return re.sub(r"[0-9][0-9.,]*", "0", path.read_text())


def _why(run: Run) -> str | None:
    return run.ledger.why_not_finished(run.stages["report"])


def test_a_report_is_stale_once_the_set_was_published_or_its_publication_is_gone(copied: Run) -> None:
    assert _why(copied) is None
    _edit(copied.stage_folder("publish").summary, outcome="f" * 64)
    assert "stale: inputs.publish" in str(_why(copied))
    copied.stage_folder("publish").summary.unlink()
    assert "stale: inputs.publish" in str(_why(copied))


def test_a_report_of_an_older_version_stays_valid_unless_publish_ended_after_it(copied: Run) -> None:
    _as_of_an_older_version(copied)
    assert _why(copied) is None
    began = json.loads(copied.stage_folder("report").summary.read_text())["started"]
    _edit(copied.stage_folder("publish").summary, ended=began + 60)
    assert "stale: inputs.publish None" in str(_why(copied))


def test_a_report_is_submitted_again_with_a_publish_that_was_not_there(copied: Run) -> None:
    """It was made without one, which is right until then."""
    copied.stage_folder("publish").summary.unlink()
    for path in (copied.stage_folder("report").summary, copied.stage_folder("report").marker(0)):
        value = json.loads(path.read_text())
        value["fingerprint"]["inputs"]["publish"] = ""
        path.write_text(json.dumps(value))
    assert _why(copied) is None
    assert [work.stage.name for work in unfinished_stages(copied, copied.chain)] == ["publish", "report"]


@pytest.mark.parametrize("again", [["all"], ["publish", "report"]])
def test_a_report_without_a_published_set_gets_it_by_the_next_launch(
    tiny_run: Any, tmp_path: Path, again: list[str]
) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "project")
    figures = project.runs / "report" / "results.md"
    before = _without_numbers(figures)
    project.forget("publish")
    without = project.run("report")
    assert without.returncode == 0, without.stderr
    assert _without_numbers(figures) != before
    assert "report: already done" in project.run("report").stderr
    for command in again:
        done = project.run(command)
        assert done.returncode == 0, done.stderr
    assert _without_numbers(figures) == before
    assert project.run("status").returncode == 0
