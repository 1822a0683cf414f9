"""A person who is found in a published set is taken out of its next version, which does not say who asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.command.main import main
from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.stages.settle.withdrawn import NAME, Round, rounds_of, version_of
from shards.tars.reader import read_tar
from slurm.errors import RunError

from ...shards.pictures import jpeg
from ..commands import sha256
from ..one_rank import plan_stage, work_alone


@pytest.fixture
def config(copied: Run) -> Path:
    """A config file of the finished run."""
    return Path(shutil.copy(copied.folder.config, copied.root / "tiny.yaml"))


def withdraw(config: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["withdraw", str(config), *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def again(run: Run, stage: str) -> Run:
    shutil.rmtree(run.stage_folder(stage).root)
    fresh = load_run_folder(run.folder.root)
    plan_stage(fresh, stage)
    work_alone(fresh, stage)
    return load_run_folder(run.folder.root)


def people(folder: Path) -> set[str]:
    return {sample.record["identity"] for tar in folder.glob("*.tar") for sample in read_tar(tar)}


def test_a_person_is_found_withdrawn_and_gone_from_the_next_version(
    copied: Run, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = copied.stage_folder("publish").output("tiny-set")
    sample = next(iter(read_tar(published / "synthetic-00001.tar")))
    (tmp_path / "jane-doe.jpg").write_bytes(sample.jpg)
    code, out, _ = withdraw(config, capsys, "--picture", tmp_path / "jane-doe.jpg")
    assert code == 0
    first = out.splitlines()[1]
    assert first.split()[:3] == [sample.record["identity"], "image", f"{sample.key}:"]
    assert first.split()[3] == "1.0000"
    assert first.endswith("near")
    assert "nothing was changed; --apply withdraws them" in out
    assert rounds_of(copied) == ()
    assert copied.ledger.why_not_finished(copied.stages["settle"]) is None

    before = sha256(published / "manifest.json")
    code, out, _ = withdraw(config, capsys, "--picture", tmp_path / "jane-doe.jpg", "--apply")
    assert code == 0
    assert "`cemiface settle` and `cemiface publish` make the next version" in out
    (done,) = rounds_of(copied)
    assert sample.record["identity"] in done.people
    assert done.manifest == before
    fresh = load_run_folder(copied.folder.root)
    assert NAME in str(fresh.ledger.why_not_finished(fresh.stages["settle"]))

    everyone = people(published)
    fresh = again(again(copied, "settle"), "publish")
    folder = fresh.stage_folder("publish").output("tiny-set")
    assert people(folder) == everyone - set(done.people)
    card = (folder / "README.md").read_text()
    assert "# tiny-set 2.0.0" in card
    assert f"has the sha256 {before}. Synthetic people that were withdrawn since: {', '.join(done.people)}." in card
    revision = json.loads((folder / "croissant.json").read_text())["prov:wasRevisionOf"]
    assert revision["sc:sha256"] == before
    for path in fresh.folder.root.rglob("*"):
        assert not path.is_file() or b"jane-doe" not in path.read_bytes(), path
    settled = json.loads(fresh.stage_folder("settle").summary.read_text())
    assert settled["counts"]["on_request"] == 4 * len(done.people)
    assert sum(settled["counts"].values()) == settled["images_in"] == 16


def test_what_cannot_be_searched_for_is_refused_in_one_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large.jpg").write_bytes(jpeg(0, size=112))
    (tmp_path / "text.jpg").write_text("no picture")
    for name, told in (
        ("large.jpg", "wrong size, 112x112"),
        ("text.jpg", "not an image"),
        ("none.jpg", "no such file"),
    ):
        code, _, err = withdraw(config, capsys, "--picture", tmp_path / name, "--apply")
        assert code == 1
        assert "--picture: " in err
        assert told in err
        assert len(err.splitlines()) == 1
    assert not (config.parent / "runs" / "tiny" / NAME).exists()


def test_a_damaged_list_of_withdrawn_people_stops_settling(copied: Run) -> None:
    (copied.folder.root / NAME).write_text('{"format": "cemiface-withdrawn-1", "rounds": [{"people": ["../x"]}]}')
    with pytest.raises(RunError, match="is no list of withdrawn people"):
        again(copied, "settle")


def test_each_published_set_from_which_people_are_withdrawn_gets_a_new_version() -> None:
    one, two = Round(people=("synthetic-000001",), manifest="a"), Round(people=("synthetic-000002",), manifest="a")
    other, unpublished = Round(people=("synthetic-000003",), manifest="b"), Round(people=(), manifest=None)
    assert version_of("1.2.0", ()) == "1.2.0"
    assert version_of("1.2.0", (unpublished,)) == "1.2.0"
    assert version_of("1.2.0", (one, two)) == "2.2.0"
    assert version_of("1.2.0", (one, two, other)) == "3.2.0"
