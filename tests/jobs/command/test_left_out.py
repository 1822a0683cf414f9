"""`status` and the last line of `all` say what was left out, with the places of the details."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.command.main import main

from ...shards.pictures import jpeg


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for number in range(20):
        folder = tmp_path / "faces" / f"person-{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(jpeg(number, size=32))
    path = tmp_path / "left.yaml"
    path.write_text("name: left\nshard: {faces: faces, image_size: 32, max_bad_fraction: 0.2}\n")
    return path


def output(command: str, config: Path, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as end:
        main([command, str(config), *options])
    assert end.value.code == code
    return capsys.readouterr().out


def test_the_last_line_of_all_and_status_name_every_outcome_and_where_the_details_are(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = config.parent / "faces"
    whole = (faces / "person-0" / "0.jpg").read_bytes()
    for number in range(2):
        (faces / "person-0" / f"cut-{number}.jpg").write_bytes(whole[:-40])
    (faces / "loose.jpg").write_bytes(whole)
    folder = config.parent / "runs" / "left" / "shard"
    line = (
        f"all done, see {folder.parent}; shard: 20 of 23 kept: 2 truncated, 1 no identity; details: "
        f"{folder / 'summary.json'} and {folder / 'lists' / 'skipped.tsv'}"
    )
    assert output("all", config, capsys).splitlines()[-1] == line
    assert output("status", config, capsys).splitlines()[-1] == line
    (stage,) = json.loads(output("status", config, capsys, "--json"))["stages"]
    assert stage["left_out"] == {"truncated": 2, "no_identity": 1}
    assert "loose.jpg\tno_identity" in (folder / "lists" / "skipped.tsv").read_text()


def test_nothing_is_said_where_nothing_was_left_out(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output("all", config, capsys).splitlines()[-1] == f"all done, see {config.parent / 'runs' / 'left'}"


def test_only_the_file_that_has_details_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "faces" / "README").write_text("about")
    folder = config.parent / "runs" / "left" / "shard"
    assert (
        output("all", config, capsys)
        .splitlines()[-1]
        .endswith(f"shard: 20 of 21 kept: 1 ignored; details: {folder / 'lists' / 'skipped.tsv'}")
    )
