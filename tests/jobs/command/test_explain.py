"""`cemiface explain`, the reference page and the JSON schema, all made from the fields' descriptions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from jobs.command.main import main
from jobs.command.reference.fields import NOT_RUN, NOTHING_STALE, REQUIRED, STALE, UNITS_STAY, reference
from jobs.command.reference.schema import cluster_schema, experiment_schema, for_editors
from jobs.command.reference.schema_words import allowed_in, type_of
from jobs.frame.config_file.fields import read_fields
from jobs.frame.config_file.yaml_file import read_yaml
from jobs.frame.errors import ConfigError
from jobs.frame.methods import DEFAULT, find_method

ROOT = Path(__file__).parents[3]
CONFIGS = sorted([*(ROOT / "configs").glob("*.yaml"), *(ROOT / "configs" / "ablations").glob("*.yaml")])
REGENERATE = "run `make config-reference` to write docs/config.md and configs/schema.json again"

FIELDS = reference(DEFAULT)
SCHEMA = for_editors(experiment_schema(DEFAULT))

# Words of a dialect that the house has given up. Sections are left out: their text is the stage's title.
DIALECT = re.compile(
    r"\b(anew|told|said|wish\w*|in vain|nobody|everybody|somebody|photos?|landmarks?|beats?|pace|fate|so many|goes on|"
    r"going on|go on|mend\w*|ill|obituary|lacks?)\b",
    re.IGNORECASE,
)


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and error output of the command."""
    with pytest.raises(SystemExit) as exit_:
        main(["explain", *arguments])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


@pytest.mark.parametrize("path", FIELDS.entries)
def test_every_field_has_a_description_in_plain_words(path: str) -> None:
    entry = FIELDS.entries[path]
    assert len(entry.description) >= 20
    assert entry.description.endswith((".", "?"))
    if path not in find_method(DEFAULT).chain:
        assert not DIALECT.search(entry.description)


def test_every_field_of_the_models_is_listed() -> None:
    for stage in find_method(DEFAULT).chain.values():
        for name in stage.config.model_fields:
            assert f"{stage.name}.{name}" in FIELDS.entries


def test_a_field_shows_type_range_default_and_description(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explained(capsys, "generate.eta")
    assert code == 0
    assert "generate.eta: number, 0 to 1; default: 0.0" in out
    assert "DDPM" in out


def test_a_section_shows_all_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explained(capsys, "train-diffusion")
    assert code == 0
    assert {"denoiser.image_size", "loss.weight", "ema_decay"} <= set(out.split())


def test_without_a_field_the_sections_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explained(capsys)
    assert code == 0
    assert {*find_method(DEFAULT).chain, "seed", "cluster"} <= set(out.split())


def test_the_cluster_file_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "whole number, 0 to 1" in explained(capsys, "cluster.array.gpus")[1]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("generate.etta", "generate.eta"),
        ("eta", "generate.eta"),
        ("generat", "generate"),
        ("cluster.array.gpu", "cluster.array.gpus"),
        ("mixture.weight", "generate.mixture.N.weight"),
    ],
)
def test_a_typo_gets_near_names(capsys: pytest.CaptureFixture[str], typed: str, meant: str) -> None:
    code, _, err = explained(capsys, typed)
    assert code == 2
    assert meant in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("generate", "shard"), ("generate", "--method", "none"), ("qqqq",)])
def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, out, err = explained(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("cemiface: ")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("generate.mixture.0.weight", "generate.mixture.N.weight"),
        ("generate.mixture.weight", "generate.mixture.N.weight"),
        ("convert-benchmarks.sources.lfw.bin", "convert-benchmarks.sources.NAME.bin"),
        ("train-diffusion.denoiser.preset", "train-diffusion.denoiser.preset"),
    ],
)
def test_fields_in_lists_and_mappings_are_found(path: str, found: str) -> None:
    assert FIELDS.find(path).path == found


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("generatexeta: unknown field")):
        FIELDS.find("generatexeta")


def test_what_a_change_means_follows_from_the_marks() -> None:
    effects = {path: FIELDS.entries[path].effect for path in ("generate.eta", "generate.encoders", "identities.count")}
    assert effects == {"generate.eta": STALE, "generate.encoders": NOTHING_STALE, "identities.count": UNITS_STAY}
    # Operational for `evaluate`; inside another section it is part of the fingerprint.
    assert FIELDS.entries["evaluate.batch"].effect == NOTHING_STALE
    assert FIELDS.entries["study-m.verification.batch"].effect == STALE


def test_defaults_of_sections_and_groups() -> None:
    assert FIELDS.entries["generate"].default == NOT_RUN
    assert FIELDS.entries["shard.faces"].default == REQUIRED
    assert FIELDS.entries["calibrate.grid"].default == '{"interval": 0.1}'


@pytest.mark.parametrize(
    ("node", "words", "allowed"),
    [
        ({"type": "integer", "exclusiveMinimum": 0}, "whole number", "1 or more"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "number", "above 0 to below 1"),
        ({"type": "number", "maximum": 3}, "number", "at most 3"),
        ({"type": "number", "exclusiveMinimum": 0}, "number", "above 0"),
        ({"anyOf": [{"type": "integer", "minimum": 2}, {"type": "null"}]}, "whole number or null", "2 or more"),
        ({"type": "array", "items": {"type": "number", "minimum": 0}}, "list of numbers", "each 0 or more"),
        ({"enum": ["a", "b"]}, "one of a, b", ""),
        ({"const": "linear", "type": "string"}, "linear", ""),
        ({"type": "object", "additionalProperties": {"$ref": "#/$defs/X"}}, "sections by name", ""),
    ],
)
def test_types_and_ranges_in_words(node: dict[str, Any], words: str, allowed: str) -> None:
    assert (type_of(node), allowed_in(node)) == (words, allowed)


@pytest.mark.parametrize(("method", "name"), [("cemiface", "config"), ("gandiffface", "config_gandiffface")])
def test_the_reference_page_is_current(capsys: pytest.CaptureFixture[str], method: str, name: str) -> None:
    page = explained(capsys, "--markdown", "--method", method)[1]
    assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == page, REGENERATE


@pytest.mark.parametrize(("method", "name"), [("cemiface", "schema"), ("gandiffface", "schema_gandiffface")])
def test_the_schema_is_current(capsys: pytest.CaptureFixture[str], method: str, name: str) -> None:
    schema = explained(capsys, "--schema", "--method", method)[1]
    assert (ROOT / "configs" / f"{name}.json").read_text(encoding="utf-8") == schema, REGENERATE
    assert json.loads(schema) == for_editors(experiment_schema(method))


@pytest.mark.parametrize("schema", [SCHEMA, for_editors(cluster_schema())], ids=["experiment", "cluster"])
def test_the_schemas_are_valid(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_fit_the_schema_as_written_and_with_their_base(path: Path) -> None:
    method = read_fields(path).get("method", DEFAULT)
    validator = jsonschema.Draft202012Validator(for_editors(experiment_schema(method)))
    for fields in (read_yaml(path), read_fields(path)):
        assert [error.message for error in validator.iter_errors(fields)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "cluster").glob("*.yaml")), ids=lambda path: path.stem)
def test_cluster_files_fit_their_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(for_editors(cluster_schema())).validate(read_yaml(path))


@pytest.mark.parametrize(
    "fields",
    [
        {"generate": {"etta": 1}},
        {"generate": {"eta": 2}},
        {"train_diffusion": {}},
        {"train-diffusion": {"denoiser": {"preset": "none"}}},
        {"convert-benchmarks": {"sources": {"LFW": {"bin": "lfw.bin"}}}},
    ],
    ids=["unknown field", "out of range", "underscore", "unknown preset", "name of a benchmark"],
)
def test_the_schema_refuses(fields: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid({"name": "x", **fields})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_first_line_of_a_config_names_the_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named
    method = read_yaml(path).get("method", DEFAULT)
    schema = "schema.json" if method == DEFAULT else f"schema_{method}.json"
    assert (path.parent / named[1]).resolve() == ROOT / "configs" / schema


def test_explaining_imports_no_torch() -> None:
    code = (
        "import sys; from jobs.command.reference.fields import reference; reference('cemiface'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
