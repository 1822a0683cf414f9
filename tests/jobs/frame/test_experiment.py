"""Experiment and cluster files: impossible values are refused in one line, files may have a base and overrides."""
# ruff: noqa: N802

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.config_file.allowed import PATTERNS
from jobs.frame.config_file.fields import override_fields, read_fields, split_overrides
from jobs.frame.config_file.validation import is_text
from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run, load_run_folder, save_run
from jobs.frame.experiment_config import experiment_of
from jobs.methods.cemiface.generate.plan import GenerateFaces
from jobs.stages.convert_benchmarks.plan import ConvertBenchmarks
from jobs.stages.shard.plan import ShardFaces
from slurm.cluster import Cluster

from ..chain_config import CHAIN

ROOT = Path(__file__).parents[3]


def _refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    """The error message without the file's name; it is always one line."""
    path = tmp_path / "chain.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_run(path, overrides=overrides)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=true", "seed: got True, allowed: a valid integer"),
        ("seed=-1", "seed: got -1, allowed: greater than or equal to 0"),
        (f"seed={2**63}", f"seed: got {2**63}, allowed: less than {2**63}"),
        ("seed=1.5", "seed: got 1.5, allowed: a valid integer"),
        ("seed='1'", "seed: got '1', allowed: a valid integer"),
        ("seed=", "seed: got None"),
        ("shard.shard_images=0", "shard.shard_images: got 0, allowed: greater than or equal to 1"),
        ("shard.image_size=100000", "shard.image_size: got 100000"),
        ("shard.max_bad_fraction=1.5", "shard.max_bad_fraction: got 1.5"),
        ("shard.resize=stretch", "shard.resize: got 'stretch', allowed: 'never', 'center' or 'pad'"),
        ("train-diffusion.learning_rate=.nan", "train-diffusion.learning_rate: got '.nan'"),
        ("train-diffusion.learning_rate=.inf", "train-diffusion.learning_rate: got '.inf'"),
        ("train-diffusion.learning_rate=0", "train-diffusion.learning_rate: got 0, allowed: greater than 0"),
        ("train-diffusion.learning_rate=-1e-4", "train-diffusion.learning_rate: got -0.0001"),
        ("train-diffusion.ema_decay=1", "train-diffusion.ema_decay: got 1, allowed: less than 1"),
        ("train-diffusion.batch=0", "train-diffusion.batch: got 0"),
        (
            "train-diffusion.similarity={low: 1, high: -1}",
            "similarity.high: got -1.0; allowed: at least low",
        ),
        ("train-diffusion.similarity.low=-2", "train-diffusion.similarity.low: got -2"),
        ("train-diffusion.denoiser.preset=huge", "train-diffusion.denoiser.preset: got 'huge'; allowed: paper112"),
        ("generate.similarity=[0, 1.01]", "generate.similarity.1: got 1.01, allowed: less than or equal to 1"),
        ("generate.similarity=[]", "generate.similarity: got []"),
        ("generate.similarity=0.5", "generate.similarity: got 0.5"),
        ("generate.steps=1001", "generate.steps: got 1001"),
        ("generate=5", "generate: got 5, allowed: an object"),
        ("identities.max_cosine=1.1", "identities.max_cosine: got 1.1"),
        ("train-embedder.drop_after_epochs=[3, 2]", "train-embedder.drop_after_epochs: got (3, 2); allowed: rising"),
        ("name=../elsewhere", "name: got '../elsewhere'"),
        ("name=", "name: got None"),
    ],
)
def test_B48_impossible_values_are_refused_with_field_value_and_what_is_allowed(
    tmp_path: Path, override: str, message: str
) -> None:
    assert message in _refusal(tmp_path, CHAIN, override)


@pytest.mark.parametrize("field", ["name", "runs", "root"])
@pytest.mark.parametrize("character", ["\\n", "\\0", "\\e", "\\x7f"])
def test_B49_control_characters_in_paths_are_refused(tmp_path: Path, field: str, character: str) -> None:
    assert _refusal(tmp_path, CHAIN, f'{field}="a{character}b"').startswith(f"{field}: got 'a")


@pytest.mark.parametrize("field", ["shard.faces", "embedder.weights"])
def test_B49_control_characters_in_paths_of_stages_are_refused(tmp_path: Path, field: str) -> None:
    assert _refusal(tmp_path, CHAIN, f'{field}="a\\nb"').startswith(f"{field}: got 'a")


@pytest.mark.parametrize("runs", ["faces", "faces/runs", "./faces/../faces"])
def test_B49_runs_inside_the_faces_are_refused(tmp_path: Path, runs: str) -> None:
    assert f"runs: got {runs}, allowed: a folder outside of shard.faces" in _refusal(tmp_path, CHAIN, f"runs={runs}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generat={}", 'generat: unknown field; did you mean "generate"?'),
        ("generate.step=10", 'generate.step: unknown field; did you mean "steps"?'),
        ("train_diffusion={}", 'train_diffusion: unknown field; did you mean "train-diffusion"?'),
        ("train-diffusion.denoiser.chanels=32", 'did you mean "channels"?'),
        ("train-diffusion.loss.zzz=1", "train-diffusion.loss.zzz: unknown field; allowed: "),
        ("colour=red", "colour: unknown field; allowed: "),
        (
            "study-sets={compare: {easy: {sets: [real], colour: red}}}",
            "study-sets.compare.easy.colour: unknown field; allowed: asked, augment, images, images_of_each, m, sets",
        ),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(tmp_path: Path, override: str, message: str) -> None:
    assert message in _refusal(tmp_path, CHAIN, override)


def test_all_problems_are_counted_and_the_first_is_reported(tmp_path: Path) -> None:
    assert _refusal(tmp_path, CHAIN, "seed=-1", "generate.steps=0").endswith("(and 1 more)")


def test_a_long_value_is_cut_short(tmp_path: Path) -> None:
    assert len(_refusal(tmp_path, CHAIN, f"generate.spacing={'x' * 10_000}")) < 300


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1", "seed=2"], "seed: overridden twice"),
        (["generate.similarity.0=1"], "similarity is not a section"),
        (["seed.x=1"], "seed.x: seed is not a section"),
        (["generate.steps"], "'generate.steps': got no field=value"),
        (["=3"], "'=3': got no field=value"),
        (["generate.steps=[1"], "generate.steps: line 1 not YAML"),
        (["generate..steps=1"], "unknown field"),
    ],
)
def test_B52_overrides_without_value_or_place_are_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    assert message in _refusal(tmp_path, CHAIN, *overrides)


def test_overrides_win_over_the_file_and_add_sections(tmp_path: Path) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    run = load_run(path, overrides=["generate.steps=7", "fingerprint={}", "audit={}", "generate.similarity=[0.5]"])
    assert run.section(GenerateFaces).steps == 7
    assert run.section(GenerateFaces).similarity == (0.5,)
    assert [stage.name for stage in run.chain][-3:] == ["generate", "fingerprint", "audit"]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("shard.faces=07/set #2", "07/set #2"),
        ("shard.faces=15", "15"),
        ("shard.faces=@lab/faces", "@lab/faces"),
        ("shard.faces=true", "true"),
        ("shard.faces=[a]", "[a]"),
        ("shard.faces=~/faces", "~/faces"),
        ("shard.faces= a ", " a "),
        ("shard.faces=a=b", "a=b"),
        ("shard.faces=it's", "it's"),
        ("shard.faces='a' and 'b'", "'a' and 'b'"),
        ("shard.faces='a # b'", "a # b"),
        ('shard.faces="\\u00e9"', "\u00e9"),
        ("shard.name=CASIA: aligned #2", "CASIA: aligned #2"),
        ("shard.license=CC BY 4.0 # see notes", "CC BY 4.0 # see notes"),
        ("shard.license=null", None),
        ("shard.license=", None),
        ("shard.only=1e5", "1e5"),
        ("embedder.weights=3", "3"),
        ("name=2024", "2024"),
        ("name=1.10", "1.10"),
        ("convert-benchmarks.sources.lfw.bin=lfw #1.bin", "lfw #1.bin"),
        ("publish.creator=- lab: @x", "- lab: @x"),
        ("publish.governance.contact=see #4: *us*", "see #4: *us*"),
    ],
)
def test_fields_of_text_take_an_override_as_it_is(tmp_path: Path, override: str, text: str | None) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    value: Any = read_fields(path)
    override_fields(value, split_overrides([override]), is_text=partial(is_text, experiment_of("cemiface")))
    for part in override.partition("=")[0].split("."):
        value = value[part]
    assert value == text


def test_a_path_with_a_number_sign_shards_that_folder(tmp_path: Path) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    assert load_run(path, overrides=["shard.faces=07/set #2"]).section(ShardFaces).faces == "07/set #2"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "publish={set_name: a, creator: b, license: c, version: x}",
            "publish.version: got 'x', allowed: ",
        ),
        ("name=a: b", "name: got 'a: b', allowed: "),
        ("method=1", "method: got '1'"),
        ("shard.faces=\udcff", "shard.faces: got '\\udcff', allowed: UTF-8 text"),
    ],
)
def test_text_that_does_not_fit_is_refused_as_it_was_typed(tmp_path: Path, override: str, message: str) -> None:
    assert message in _refusal(tmp_path, CHAIN, override)


@pytest.mark.parametrize(
    "text", ["name: 2024", "name: a\nshard: {faces: 15}", "name: a\nshard: {faces: a, license: 1.10}"]
)
def test_a_number_in_a_field_of_text_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    assert "allowed: a valid string, in quotes; change it" in _refusal(tmp_path, f"{text}\n")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "name=a b",
            "name: got 'a b', allowed: letters, digits, dots, dashes and underscores, after a letter or digit",
        ),
        (f"name={'x' * 81}", "..., allowed: at most 80 characters; change it"),
        ('shard.faces="a\\nb"', "allowed: a path without line feeds and other control characters; change it"),
        ("generate.similarity=[]", "generate.similarity: got [], allowed: at least 1 item, not 0; change it"),
        (
            "convert-benchmarks={sources: {LFW: {bin: a}}}",
            "convert-benchmarks.sources.LFW: got 'LFW', allowed: a-z, 0-9",
        ),
        ("train-embedder.sets=[Real]", "train-embedder.sets.0: got 'Real', allowed: up to 80 of a-z, 0-9, dots"),
    ],
)
def test_what_is_allowed_is_said_in_words(tmp_path: Path, override: str, message: str) -> None:
    found = _refusal(tmp_path, CHAIN, override)
    assert message in found
    assert not {"String", "Tuple", "pattern", "[key]"} & set(found.replace(".", " ").split())


@pytest.mark.parametrize("text", ["array: {ranks: 0}", "array: {minutes: 12:00:00}", "stages: {embed: {ranks: 0}}"])
def test_a_field_of_the_cluster_file_is_not_to_be_given_on_the_command_line(tmp_path: Path, text: str) -> None:
    config, cluster = tmp_path / "chain.yaml", tmp_path / "site.yaml"
    config.write_text(CHAIN)
    cluster.write_text(text)
    with pytest.raises(ConfigError, match=r"; change it in the file$"):
        load_run(config, cluster=cluster)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("generate: {}", "generate: needs the stage train-diffusion; add a section `train-diffusion:`"),
        ("shard: {faces: f}\nembed: {}", "embed: needs the stage train-embedder"),
        ("shard: {faces: f}\ntrain-embedder: {}\ntrain-recognition: {}", "needs the stage generate"),
    ],
)
def test_a_stage_without_what_it_reads_is_refused(tmp_path: Path, sections: str, message: str) -> None:
    assert message in _refusal(tmp_path, f"name: lacking\n{sections}\n")


def test_train_embedder_is_skipped_if_weights_are_given(tmp_path: Path) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    run = load_run(path, overrides=["embedder.weights=w.safetensors"])
    assert "train-embedder" not in [stage.name for stage in run.chain]


def test_the_saved_run_loads_as_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    run = load_run(path, overrides=["generate.steps=7", "runs=elsewhere"])
    run.folder.create()
    save_run(run)
    again = load_run_folder(run.folder.root)
    assert again.config.model_dump(exclude={"root"}) == run.config.model_dump(exclude={"root"})
    assert (again.folder.root, again.cluster, again.root) == (run.folder.root, run.cluster, run.root)


@pytest.mark.parametrize(
    ("folder", "executor", "refused"),
    [
        ("50%jobs", "local", "%j"),
        ("a%Ab", "slurm", "%A"),
        ("%t", "slurm", "%t"),
        ("%4a", "slurm", "%4a"),
        ("100%%", "slurm", "%%"),
        ("%x", "slurm", "%x"),
        ("a\\b", "slurm", "\\"),
        ("%x", "local", None),
        ("100%", "slurm", None),
        ("a b%", "local", None),
    ],
)
def test_a_path_in_which_job_numbers_would_be_put_is_refused(
    tmp_path: Path, folder: str, executor: str, refused: str | None
) -> None:
    path, cluster = tmp_path / folder / "configs" / "chain.yaml", tmp_path / "site.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CHAIN)
    cluster.write_text(f"executor: {executor}\n")
    if refused is None:
        assert load_run(path, cluster=cluster).root == tmp_path / folder
        return
    with pytest.raises(ConfigError, match=re.escape(f"where {refused!r} stands for something else")) as caught:
        load_run(path, cluster=cluster)
    assert str(caught.value).startswith(f"runs: got {tmp_path / folder}")


def test_relative_paths_start_where_configs_lies(tmp_path: Path) -> None:
    path = tmp_path / "configs" / "mine" / "chain.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CHAIN)
    assert load_run(path).path("faces") == tmp_path / "faces"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partition: "gpu\\ntouch x"', "partition: got 'gpu\\ntouch x'"),
        ("array: {rank: 3}", 'array.rank: unknown field; did you mean "ranks"?'),
        ("array: {minutes: 12:00:00}", "array.minutes: got '12:00:00', allowed: a valid integer"),
        ("executor: pbs", "executor: got 'pbs', allowed: 'local' or 'slurm'"),
        (
            "executor: slurm\narray: {minutes: 6}",
            "array.minutes: got 6 with stop_signal_seconds: 180; allowed: at least 7",
        ),
        ("train: {ranks_per_node: 0}", "train.ranks_per_node: got 0"),
    ],
)
def test_B50_a_wrong_cluster_file_is_refused_naming_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    config, cluster = tmp_path / "chain.yaml", tmp_path / "site.yaml"
    config.write_text(CHAIN)
    cluster.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_run(config, cluster=cluster)
    assert str(error.value).startswith(f"{cluster}: {message}")
    assert "\n" not in str(error.value)


def test_a_config_names_what_differs_from_its_base_and_null_takes_a_section_away(tmp_path: Path) -> None:
    sources = "{first: {bin: a.bin}, second: {bin: b.bin}}"
    (tmp_path / "chain.yaml").write_text(CHAIN + f"convert-benchmarks: {{sources: {sources}}}\n")
    own = "shard: {image_size: 64}\nconvert-benchmarks: {sources: {second: null}}\ngenerate: null\n"
    (tmp_path / "own.yaml").write_text("base: chain.yaml\nname: own\n" + own)
    run = load_run(tmp_path / "own.yaml")
    assert (run.config.name, run.config.seed) == ("own", 1)
    assert (run.section(ShardFaces).faces, run.section(ShardFaces).image_size) == ("faces", 64)
    assert list(run.section(ConvertBenchmarks).sources) == ["first"]
    assert run.config.generate is None


def test_configs_that_are_based_on_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("base: chain.yaml\n")
    assert "names a file that is based on it" in _refusal(tmp_path, "base: other.yaml\n")


def test_every_pattern_of_a_field_has_words() -> None:
    models = [experiment_of("cemiface"), experiment_of("gandiffface"), Cluster]
    patterns = {pattern for model in models for pattern in _patterns(model.model_json_schema())}
    assert len(patterns) > 3
    assert patterns <= PATTERNS.keys()


def _patterns(schema: Any) -> Iterator[str]:
    """Of values and of keys."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from schema.get("patternProperties", {})
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _patterns(part)
