"""What recognition nets are trained on: real faces, synthetic ones, or both, under labels without a gap."""
# ruff: noqa: N802

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs.frame.experiment import load_run_folder
from jobs.stages.shared.sets import faces_of
from shards.errors import DataError
from tests.jobs.commands import Project
from tests.jobs.conftest import TinyRun


def test_mixed_sets_have_labels_without_a_gap_whatever_the_names(tiny_run: TinyRun) -> None:
    """The paper's released log has 20,000 centers for 10,000 identities: labels were folder numbers."""
    run = load_run_folder(tiny_run.folder)
    sets = {kinds: faces_of(run, kinds=kinds) for kinds in (("real",), ("synthetic",), ("real", "synthetic"))}
    for faces in sets.values():
        assert np.array_equal(np.unique(faces.labels), np.arange(len(faces.classes)))
    mixed = sets["real", "synthetic"]
    assert len(mixed) == len(sets["real",]) + len(sets["synthetic",])
    assert sorted(mixed.classes) == sorted([*sets["real",].classes, *sets["synthetic",].classes])
    assert all(mixed.classes[mixed.labels[row]] == mixed.record(row)["identity"] for row in range(len(mixed)))


def test_B32_a_real_person_named_like_a_synthetic_one_is_not_trained_as_one(tiny_run: TinyRun, tmp_path: Path) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "copy")
    for person in (project.root / "faces").iterdir():  # whoever is held out, the others have such names
        person.rename(person.with_name(f"synthetic-{int(person.name.removeprefix('person-')):06d}"))
    shutil.rmtree(project.runs / "shard")
    assert project.run("shard").returncode == 0
    with pytest.raises(
        DataError, match=r"sets: got \d identities of one name in real and synthetic; allowed: different"
    ):
        faces_of(load_run_folder(project.runs), kinds=("real", "synthetic"))
