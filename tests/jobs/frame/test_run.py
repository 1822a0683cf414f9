"""Sections and files of a run's config."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.frame.run import Run
from jobs.frame.stage_config import StageConfig
from jobs.methods.cemiface.generate.plan import GenerateFaces
from jobs.stages.shard.plan import ShardFaces


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = tmp_path / "chain.yaml"
    config.write_text("name: chain\nshard: {faces: faces, image_size: 64}\n")
    return load_run(config)


def test_a_section_is_found_by_its_class(run: Run) -> None:
    assert run.section(ShardFaces).image_size == 64
    assert run.find(ShardFaces) is run.section(ShardFaces)


def test_a_missing_section_is_an_error_that_names_it(run: Run) -> None:
    assert run.find(GenerateFaces) is None
    with pytest.raises(ConfigError, match=r"^generate: this run needs a section `generate:`; add one to the config$"):
        run.section(GenerateFaces)


def test_a_section_of_no_stage_is_an_error_too(run: Run) -> None:
    class Unknown(StageConfig):
        """Of no stage of the method."""

    assert run.find(Unknown) is None
    with pytest.raises(ConfigError, match="Unknown"):
        run.section(Unknown)


def test_a_given_file_must_exist(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shard.only: got .*no.txt, no such file; give a list or remove it"):
        run.given_file("shard.only", "no.txt", give="a list")
    (tmp_path / "yes.txt").touch()
    assert run.given_file("shard.only", "yes.txt", give="a list") == tmp_path / "yes.txt"


def test_paths_start_at_the_root(run: Run, tmp_path: Path) -> None:
    assert run.path("faces") == tmp_path / "faces"
    assert run.path("/faces") == Path("/faces")
    assert run.path("~/faces") == Path.home() / "faces"
