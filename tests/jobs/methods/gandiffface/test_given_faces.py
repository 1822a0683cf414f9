"""GAN faces that exist already, as the source of identities."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cemiface.errors import ModelError
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.methods.gandiffface.candidates.plan import MakeCandidates, forecast
from jobs.methods.gandiffface.given_parts import recorded_parts
from jobs.methods.gandiffface.lineage import lineage
from jobs.methods.gandiffface.report_parts.portraits import portraits as portraits_part
from jobs.report.part import Sets
from shards.tars.shard_set import ShardSet

from .small_run import SIZE, configured, done, photo, write

GIVEN = {"license": "CC0-1.0", "origin": "a test"}
PEOPLE = range(9, 17)
CHOICE = {"count": 5, "max_cosine": 1.0, "max_cosine_to_real": 1.0, "min_age": 0}


def given_run(root: Path, *, path: str, more: dict[str, Any] | None = None, **faces: Any) -> Run:
    return configured(
        root,
        candidates={"faces": {"path": path, **GIVEN, **faces}, "align": True, "block": 3},
        identities={**CHOICE, "target": {"gender": {"male": 1.0}}, "if_short": "less"},
        portraits={"count": 4, "min_cosine": 0.0, "identities_per_unit": 2, "originals": True},
        **(more or {}),
    )


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A person per file, and one file that is no image; done up to the portraits."""
    root = tmp_path_factory.mktemp("flat")
    for person in PEOPLE:
        write(photo(person, 1), root / "gan" / f"{person}.png")
    (root / "gan" / "notes.png").write_text("no image")
    run = given_run(root, path="gan")
    done(run, "shard", "embed", "candidates", "identities", "portraits")
    return run


def portraits_of(run: Run, *, prefix: str = "portraits-") -> ShardSet:
    return ShardSet(run.ledger.outputs("portraits", prefix=prefix, suffix=".tar"))


def test_every_file_is_a_candidate_or_has_an_outcome(flat: Run) -> None:
    summary = flat.ledger.summary("candidates")
    assert summary is not None
    assert summary.counts == {"measured": len(PEOPLE), "not_an_image": 1}


def test_portraits_of_a_single_picture_are_other_cuts_of_it(flat: Run) -> None:
    faces = portraits_of(flat)
    records = list(faces.records())
    assert {record["index"] for record in records} == {0, 1, 2, 3}
    assert all(faces.rgb(row).shape == (SIZE, SIZE, 3) for row in range(len(faces)))
    assert all(record["cut"] == {} and record["cosine"] == 1 for record in records if record["index"] == 0)
    assert all(abs(record["cut"]["turn"]) <= 6 and record["asked"] == {} for record in records if record["index"])
    assert all(record["measured"]["face"] > 0.5 for record in records)


def test_originals_are_the_given_pictures_cut_in_the_same_way(flat: Run) -> None:
    faces, originals = portraits_of(flat), portraits_of(flat, prefix="originals-")
    assert faces.keys == originals.keys
    assert originals.rgb(0).shape == (300, 300, 3)


@pytest.mark.parametrize("ranks", [pytest.param(3, marks=pytest.mark.long), 7])
def test_the_bytes_do_not_depend_on_the_number_of_ranks(flat: Run, tmp_path: Path, ranks: int) -> None:
    shutil.copytree(flat.root, tmp_path / "copy")
    again = given_run(tmp_path / "copy", path="gan")
    for stage in ("candidates", "identities", "portraits"):
        before = flat.ledger.outcome(stage)
        assert done(again, stage, ranks=ranks)["outcome"] == before


def test_the_plan_says_that_there_are_no_latent_edits(flat: Run) -> None:
    text = forecast(flat)
    assert "9 people in 9 pictures" in text
    assert "no latent edits and no directions" in text
    assert "license: CC0-1.0" in text


def test_their_origin_and_license_and_the_attribute_nets_are_recorded(flat: Run) -> None:
    assert "unknown origin: candidates.faces" in {one.name for one in lineage(flat)}
    parts = {part["role"]: part for part in recorded_parts(flat)}
    faces = parts["faces of the identities"]
    assert (faces["license"], faces["origin"], len(faces["sha256"])) == ("CC0-1.0", "a test", 64)
    assert any(part["license"] == "CC0-1.0" and "age" in role for role, part in parts.items())


def test_what_the_generator_was_trained_on_is_in_the_lineage_if_it_is_said(tmp_path: Path) -> None:
    run = given_run(tmp_path, path="gan", trained_on="FFHQ")
    assert "FFHQ" in {one.name for one in lineage(run)}


def test_the_report_shows_them_without_directions(flat: Run) -> None:
    section = portraits_part(flat, Sets(real=None, held_out=None, synthetic=None))
    assert section is not None
    assert section["directions"] == {}
    assert [len(row) for row in section["sheets"][0].rows] == [4] * 5


def test_another_resolution_judges_the_realized_shares(flat: Run) -> None:
    summary = flat.ledger.summary("portraits")
    assert summary is not None
    gender = summary.figures["target"]["gender"]
    assert (gender["judge"], gender["size"], gender["faces"]) == ("gender", 32, 5)
    judged = gender["labels"]["male"]["judged"]
    assert judged["interval"][0] < judged["value"] <= 1


def test_portraits_of_folders_are_the_pictures_of_one_person(tmp_path: Path) -> None:
    for person in range(9, 14):
        for number in (1, 2, 3):
            write(photo(person, number), tmp_path / "gan" / f"q{person}" / f"{number}.png")
    write(photo(20, 1), tmp_path / "gan" / "q9" / "another-person.png")
    run = given_run(tmp_path, path="gan", people="folders")  # all five are men for the net, or four
    done(run, "shard", "embed", "candidates", "identities")
    summary = done(run, "portraits")
    assert summary["counts"]["accepted"] >= 8
    assert summary["images_out"] + summary["counts"].get("given_up", 0) <= 16
    assert all(record["cut"] == {} for record in portraits_of(run).records())


def test_aligned_faces_need_no_aligner_and_a_face_that_is_not_square_is_left_out(tmp_path: Path) -> None:
    for person in range(9, 12):
        write(photo(person, 1).crop((70, 110, 210, 250)), tmp_path / "gan" / f"{person}.png")
    write(photo(12, 1), tmp_path / "gan" / "oblong.png")
    run = configured(tmp_path, candidates={"faces": {"path": "gan", **GIVEN}}, identities=CHOICE)
    assert done(run, "shard", "embed", "candidates")["counts"] == {"aspect": 1, "measured": 3}


def test_pictures_of_which_none_can_be_used_are_one_line(tmp_path: Path) -> None:
    write(photo(12, 1), tmp_path / "gan" / "oblong.png")
    run = configured(tmp_path, candidates={"faces": {"path": "gan", **GIVEN}}, identities=CHOICE)
    with pytest.raises(
        ModelError, match=r"none of the 1 pictures of candidates 0 to 0 in gan can be used \(1 aspect\)"
    ):
        done(run, "shard", "embed", "candidates")


def test_the_real_faces_and_tars_of_real_faces_are_refused(flat: Run, tmp_path: Path) -> None:
    shutil.copytree(flat.root, tmp_path / "copy")
    run = given_run(tmp_path / "copy", path="real")
    with pytest.raises(ModelError, match=r"candidates.faces.path: got .*real, the real faces of shard.faces"):
        run.ledger.plan("candidates")
    run = given_run(tmp_path / "copy", path="runs/small/shard/real-00000.tar")
    with pytest.raises(ModelError, match="have the mark of private tars; allowed: faces that a GAN made"):
        run.ledger.plan("candidates")


def test_what_does_not_go_with_given_faces_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"generator: got g.safetensors beside faces; allowed: one of the two"):
        MakeCandidates(generator="g.safetensors", faces={"path": "gan", **GIVEN})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"directions: got a section with candidates.faces; allowed: none"):
        given_run(tmp_path, path="gan", more={"directions": {}})
    run = given_run(tmp_path, path="gan")
    with pytest.raises(ModelError, match=r"candidates.faces.path: got .*gan, no such file or folder"):
        run.ledger.plan("candidates")


def test_more_identities_than_given_people_are_refused_before_the_launch(tmp_path: Path) -> None:
    write(photo(12, 1), tmp_path / "gan" / "one.png")
    run = configured(tmp_path, candidates={"faces": {"path": "gan", **GIVEN}}, identities=CHOICE)
    with pytest.raises(ConfigError, match=r"identities.count: got 5 of 1 candidates; allowed: 1 to 1"):
        run.stages["identities"].check_launch(run)
