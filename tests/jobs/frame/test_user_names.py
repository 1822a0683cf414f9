"""Names that users choose never take the place of the suite's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.command.main import main
from jobs.frame.config_file.fields import read_fields
from jobs.frame.config_file.validation import validated
from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.frame.experiment_config import experiment_of
from slurm.names import own_names, why_not_a_name
from slurm.run_folder import StageFolder

PUBLISH = "publish: {{set_name: '{name}', creator: a, license: b}}"
BENCHMARK = "convert-benchmarks: {{sources: {{{name}: {{bin: lfw.bin}}}}}}"


def config_with(folder: Path, section: str, name: str) -> Path:
    path = folder / "names.yaml"
    path.write_text(f"name: names\nshard: {{faces: faces}}\n{section.format(name=name)}\n")
    return path


@pytest.mark.parametrize(
    "name", ["done", "logs", "plan.json", "summary", "superseded", "kept", "beats", "con", "nul.x"]
)
def test_a_set_does_not_take_a_name_of_the_suites_own_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"publish.set_name: got '.*', allowed: any name but those of the suite's own"
    ):
        load_run(config_with(tmp_path, PUBLISH, name))


@pytest.mark.parametrize("name", ["a.", "x/y", "..", ".a", "a b", "a\\b"])
def test_a_set_is_named_by_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"publish.set_name: got "):
        load_run(config_with(tmp_path, PUBLISH, name))


@pytest.mark.parametrize("name", ["plan", "summary", "submission", "metrics", "done", "aux"])
def test_a_benchmark_does_not_take_a_name_of_the_suites_own_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"sources.*: got '.*', allowed: any name but those of the suite's own"):
        load_run(config_with(tmp_path, BENCHMARK, name))


@pytest.mark.parametrize(
    ("section", "name"), [(PUBLISH, "cemiface-0.5m"), (PUBLISH, "plans"), (BENCHMARK, "lfw"), (BENCHMARK, "cfp_fp")]
)
def test_other_names_are_taken(tmp_path: Path, section: str, name: str) -> None:
    fields = read_fields(config_with(tmp_path, section, name))
    assert validated(experiment_of("cemiface"), fields, source="names.yaml")


def test_every_file_of_a_stage_folder_is_reserved_in_any_case() -> None:
    root = Path("stage")
    own = [path for path in vars(StageFolder(root)).values() if isinstance(path, Path) and path.parent == root]
    assert {path.name for path in own} <= own_names()
    assert why_not_a_name("DONE")
    assert why_not_a_name("Plan.JSON")
    assert why_not_a_name("LPT1.tar")


@pytest.mark.parametrize("name", ["real", "synthetic", "done", "plan.json", "nul"])
def test_a_set_is_not_imported_under_a_name_that_means_something_else(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "disk"
    source.mkdir()
    totals = '{"bytes": 0, "samples": 0, "shards": 0}'
    (source / "manifest.json").write_text(
        f'{{"format": "cemiface-manifest-1", "private": false, "shards": [], "files": [], "totals": {totals}}}'
    )
    with pytest.raises(SystemExit, match="1"):
        main(["import", str(source), "--name", name, "--sets", str(tmp_path / "sets")])
    assert f"name: got {name!r}, allowed: any name but" in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()
