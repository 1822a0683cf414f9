"""Several runs side by side: config fields that differ, figures, gaps with intervals, costs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.command.runs.compare import compare
from jobs.frame.experiment import load_run_folder
from jobs.frame.products import verification_file
from tests.jobs.commands import PROJECT, Project
from tests.jobs.one_rank import edit_config


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    """The tiny run, and a copy that was made with other settings, whose net decides every pair otherwise."""
    copied = Project.copy_of(tiny_run, tmp_path / "copy")
    other = copied.runs.parent / "other"
    shutil.copytree(copied.runs, other)
    edit_config(copied.runs, root=str(copied.root))
    edit_config(other, root=str(copied.root), name="other", report={"title": "Another run"})
    path = other / "evaluate" / verification_file("synthetic", "held-out")
    found = json.loads(path.read_text())
    found["right_exact"] = found["right_exact"].translate(str.maketrans("01", "10"))
    path.write_text(json.dumps(found))
    return copied


def _call(project: Project, *arguments: str) -> Any:
    environment = {"PYTHONPATH": str(PROJECT), "COLUMNS": "250", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=project.root,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_fields_that_differ_figures_and_costs_stand_side_by_side(project: Project) -> None:
    runs = [load_run_folder(project.runs), load_run_folder(project.runs.parent / "other")]
    found = compare(runs)
    assert found["config"] == {"report.title": ["Tiny run", "Another run"]}
    assert found["figures"]["images"] == [16, 16]
    assert found["figures"]["method"] == ["cemiface", "cemiface"]
    accuracies = found["figures"]["held-out: at exact thresholds"]
    assert accuracies[0] == runs[0].ledger.summary("evaluate").figures["verification"]["synthetic"]["accuracy_exact"]
    assert found["seconds"]["generate"][0] > 0
    first, gap = found["gaps"]["held-out"]
    assert first is None
    assert gap["mean"] == pytest.approx(1 - 2 * accuracies[0])
    assert gap["interval"][0] <= gap["mean"] + 1e-9 <= gap["interval"][1] + 2e-9


def test_the_tables_name_the_runs_and_json_holds_the_same(project: Project) -> None:
    folders = [str(project.runs), str(project.runs.parent / "other")]
    shown = _call(project, "compare", *folders)
    assert shown.returncode == 0, shown.stderr
    for text in ("other", "report.title", "held-out: accuracy", "points", "generate", "gap to tiny"):
        assert text in shown.stdout, text
    found = json.loads(_call(project, "compare", *folders, "--json").stdout)
    assert found["runs"] == folders


def test_one_run_and_folders_that_are_no_runs_are_refused(project: Project, tmp_path: Path) -> None:
    one = _call(project, "compare", str(project.runs))
    assert (one.returncode, "got one run; allowed: two or more" in one.stderr) == (2, True)
    none = _call(project, "compare", str(project.runs), str(tmp_path / "nothing"))
    assert none.returncode == 2
    assert "nothing" in none.stderr
    assert "Traceback" not in none.stderr
