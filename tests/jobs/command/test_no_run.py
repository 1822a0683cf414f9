"""Commands that look at a run which does not exist, cannot be read, or has nothing to look at yet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.command.main import main

from ..many_ranks import ManyRanks

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def many(tmp_path: Path) -> ManyRanks:
    return ManyRanks.make(tmp_path / "project", units=2)


def _command(many: ManyRanks, capsys: Captured, *words: str) -> tuple[int, str, str]:
    command, *more = words
    with pytest.raises(SystemExit) as end:
        main([command, str(many.config), *more])
    shown = capsys.readouterr()
    return int(end.value.code or 0), shown.out, shown.err


def test_verify_of_no_run_or_of_nothing_is_an_error(many: ManyRanks, capsys: Captured) -> None:
    code, out, error = _command(many, capsys, "verify")
    assert (code, out) == (1, "")
    assert "no stage is finished, so there is nothing to check" in error
    code, out, error = _command(many, capsys, "verify", "name=other")
    assert (code, out) == (1, "")
    assert f"{many.run.folder.root.parent / 'other'}: there is no such run" in error
    assert error.count("\n") == 1


def test_verify_names_a_summary_that_is_damaged(many: ManyRanks, capsys: Captured) -> None:
    many.run.stage_folder("generate").summary.write_text('{"outputs": [')
    code, out, _ = _command(many, capsys, "verify")
    assert code == 1
    assert "generate/summary.json: is damaged; remove it and run `cemiface generate` again" in out


def test_status_and_logs_of_no_run_are_one_line(many: ManyRanks, capsys: Captured) -> None:
    code, out, error = _command(many, capsys, "status", "name=other")
    assert (code, error, out.count("\n")) == (4, "", 1)
    assert "there is no such run yet; start it with: " in out
    assert json.loads(_command(many, capsys, "status", "name=other", "--json")[1])["done"] is False
    code, _, error = _command(many, capsys, "logs", "shard", "name=other")
    assert (code, error.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "words", [("status",), ("verify",), ("why",), ("logs", "generate"), ("generate",), ("cancel",)]
)
def test_a_run_that_cannot_be_read_is_an_error_in_one_line(
    many: ManyRanks, capsys: Captured, words: tuple[str, ...]
) -> None:
    """A circle of links: like a folder without access, but also for root, who runs these tests in containers."""
    folder = many.run.folder.root
    shutil.rmtree(folder)
    folder.symlink_to(folder.name)
    code, _, error = _command(many, capsys, *words)
    assert code == 1
    assert error.count("\n") == 1
    assert str(folder) in error


@pytest.mark.parametrize("content", ["{}", "[]", '{"stage": "generate"}', '{"stage": 7, "units": [{}]}', '"x'])
def test_a_damaged_plan_is_no_traceback(many: ManyRanks, capsys: Captured, content: str) -> None:
    many.run.stage_folder("generate").plan.write_text(content)
    for words in (("status",), ("why",), ("why", "generate")):
        code, out, error = _command(many, capsys, *words)
        assert code in {0, 1, 4}
        assert "Traceback" not in out + error
