"""Configs: YAML as people mean it, impossible values refused in one line, exit codes of the real command."""
# ruff: noqa: N802

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run, load_run_folder, save_run
from jobs.frame.methods import find_method
from jobs.frame.config_file.yaml_file import parse_yaml, read_yaml
from jobs.methods.cemiface.generate.plan import GenerateFaces
from jobs.stages.convert_benchmarks.plan import ConvertBenchmarks
from jobs.stages.shard.plan import ShardFaces

ROOT = Path(__file__).parents[3]
CHAIN = """
name: chain
seed: 1
shard: {faces: faces}
train-embedder: {sets: [real]}
embed: {}
train-diffusion: {}
identities: {}
generate: {similarity: [0.0]}
"""


def _refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    """What the user is told, after the file's name; it is always one line."""
    path = tmp_path / "chain.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_run(path, overrides=overrides)
    told = str(error.value)
    assert "\n" not in told
    assert len(told) < 600
    return told.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-3", -3),
        ("0", 0),
        ("0644", "0644"),
        ("12:00:00", "12:00:00"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("", None),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("2026-11-22", "2026-11-22"),
        ("'1'", "1"),
        ("=", "="),
    ],
)
def test_B47_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    found = parse_yaml(f"field: {text}", source="x")["field"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", "line 2: a: given twice; remove one"),
        ("s: {b: 1, b: 2}", "line 1: b: given twice"),
        ("1: 1\n'1': 2", "line 2: 1: given twice"),
        ("a: &x [1]\nb: *x", "line 2: aliases are not allowed"),
        ("a: !!python/object/apply:os.system [id]", "tags are not allowed"),
        ("a: !!binary aGk=", "tags are not allowed"),
        ("a: !!set {b}", "tags are not allowed"),
        ("a: ! b", "tags are not allowed"),
        ("a:\t1", "line 1 not YAML"),
        ("a:\n\tb: 1", "line 2 not YAML"),
        ("a: [1", "not YAML"),
        ("a: 1\n---\nb: 2", "line 2 not YAML"),
        ("? [a]\n: 1", "line 1: a key must be a plain word"),
        ("a: \0", "character #x00"),
        ("a: " + "[" * 5000, "nested more than 20 levels"),
        ("a: 1e999", "line 1: got 1e999"),
        ("a: 1" + "0" * 5000, "line 1: got 1000"),
        ("", "got nothing at the top"),
        ("# only a comment", "got nothing at the top"),
        ("- a\n- b", "got list at the top"),
        ("text", "got str at the top"),
    ],
)
def test_B47_what_people_do_not_mean_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    assert told in _refusal(tmp_path, text)


def test_B47_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: bom\n")
    assert read_yaml(path) == {"name": "bom"}


@pytest.mark.parametrize(
    ("content", "told"), [("name: x".encode("utf-16"), "not UTF-8"), (b"#" * (1 << 20 | 1), "allowed 1048576")]
)
def test_B47_files_that_are_no_config_files_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        read_yaml(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("override", "told"),
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
        ("embedder.weights=3", "embedder.weights: got 3"),
        ("name=../elsewhere", "name: got '../elsewhere'"),
        ("name=", "name: got None"),
    ],
)
def test_B48_impossible_values_are_refused_with_field_value_and_what_is_allowed(
    tmp_path: Path, override: str, told: str
) -> None:
    assert told in _refusal(tmp_path, CHAIN, override)


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
    ("override", "told"),
    [
        ("generat={}", 'generat: unknown field; did you mean "generate"?'),
        ("generate.step=10", 'generate.step: unknown field; did you mean "steps"?'),
        ("train_diffusion={}", 'train_diffusion: unknown field; did you mean "train-diffusion"?'),
        ("train-diffusion.denoiser.chanels=32", 'did you mean "channels"?'),
        ("train-diffusion.loss.zzz=1", "train-diffusion.loss.zzz: unknown field; allowed: "),
        ("colour=red", "colour: unknown field; allowed: "),
        (
            "study-sets={compare: {easy: {sets: [real], colour: red}}}",
            "study-sets.compare.easy.colour: unknown field; allowed: asked, augment, images, m, sets",
        ),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(tmp_path: Path, override: str, told: str) -> None:
    assert told in _refusal(tmp_path, CHAIN, override)


def test_all_problems_are_counted_and_the_first_is_told(tmp_path: Path) -> None:
    assert _refusal(tmp_path, CHAIN, "seed=-1", "generate.steps=0").endswith("(and 1 more)")


def test_a_long_value_is_not_told_in_full(tmp_path: Path) -> None:
    assert len(_refusal(tmp_path, CHAIN, f"generate.spacing={'x' * 10_000}")) < 300


@pytest.mark.parametrize(
    ("overrides", "told"),
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
def test_B52_overrides_that_cannot_be_meant_are_refused(tmp_path: Path, overrides: list[str], told: str) -> None:
    assert told in _refusal(tmp_path, CHAIN, *overrides)


def test_overrides_win_over_the_file_and_add_sections(tmp_path: Path) -> None:
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN)
    run = load_run(path, overrides=["generate.steps=7", "fingerprint={}", "audit={}", "generate.similarity=[0.5]"])
    assert run.section(GenerateFaces).steps == 7
    assert run.section(GenerateFaces).similarity == (0.5,)
    assert [stage.name for stage in run.chain][-3:] == ["generate", "fingerprint", "audit"]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ("generate: {}", "generate: needs the stage train-diffusion; add a section `train-diffusion:`"),
        ("shard: {faces: f}\nembed: {}", "embed: needs the stage train-embedder"),
        ("shard: {faces: f}\ntrain-embedder: {}\ntrain-recognition: {}", "needs the stage generate"),
    ],
)
def test_a_stage_without_what_it_reads_is_refused(tmp_path: Path, sections: str, told: str) -> None:
    assert told in _refusal(tmp_path, f"name: lacking\n{sections}\n")


def test_given_weights_make_the_embedders_training_needless(tmp_path: Path) -> None:
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


def test_relative_paths_start_where_configs_lies(tmp_path: Path) -> None:
    path = tmp_path / "configs" / "mine" / "chain.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CHAIN)
    assert load_run(path).path("faces") == tmp_path / "faces"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('partition: "gpu\\ntouch x"', "partition: got 'gpu\\ntouch x'"),
        ("array: {rank: 3}", 'array.rank: unknown field; did you mean "ranks"?'),
        ("array: {minutes: 12:00:00}", "array.minutes: got '12:00:00', allowed: a valid integer"),
        ("executor: pbs", "executor: got 'pbs', allowed: 'local' or 'slurm'"),
        ("train: {ranks_per_node: 0}", "train.ranks_per_node: got 0"),
    ],
)
def test_B50_a_wrong_cluster_file_is_refused_naming_file_and_field(tmp_path: Path, text: str, told: str) -> None:
    config, cluster = tmp_path / "chain.yaml", tmp_path / "site.yaml"
    config.write_text(CHAIN)
    cluster.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_run(config, cluster=cluster)
    assert str(error.value).startswith(f"{cluster}: {told}")
    assert "\n" not in str(error.value)


def _command(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    from jobs.command.main import main

    for command in (
        "all",
        *find_method("cemiface").chain,
        "plan",
        "status",
        "why",
        "logs",
        "cancel",
        "run-rank",
        "verify",
    ):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert f"example:\n  cemiface {command} configs/demo.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plan", "missing.yaml"], "missing.yaml: No such file"),
        (["generate", "{config}", "generate.steps=0"], "generate.steps: got 0"),
        (["publish", "{config}"], "has no section `publish:`; add one"),
        (["all", "{config}", "--cluser", "x"], "unknown option: --cluser"),
        (["paint", "{config}"], "invalid choice"),
        (["logs", "{config}", "generate", "--lines", "0"], "got 0, allowed: 1 or more"),
        (["logs", "{config}"], "logs: needs STAGE [RANK]"),
        (["why", "{config}", "paint"], "STAGE: invalid choice 'paint', allowed: shard, "),
        (["why", "{config}", "7"], "why: needs [STAGE [RANK]]"),
        (["why", "{config}", "generate", "0", "1"], "got too much"),
        (["why", "{config}", "generate", "--rank", "first"], "got first, allowed: 0 or more"),
        (["run-rank", "{config}", "generate"], "run-rank: needs STAGE RANK"),
        (["cancel", "{config}", "publish"], "the stage publish is not part of this run"),
    ],
)
def test_wrong_usage_and_wrong_configs_exit_2_and_start_nothing(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    config = tmp_path / "chain.yaml"
    config.write_text(CHAIN)
    done = _command(*(argument.format(config=config) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chain.yaml"]


def test_overrides_may_stand_before_and_behind_options(tmp_path: Path) -> None:
    (tmp_path / "faces" / "somebody").mkdir(parents=True)
    (tmp_path / "faces" / "somebody" / "0.png").touch()
    config, cluster = tmp_path / "plan.yaml", tmp_path / "site.yaml"
    config.write_text("name: plan\nshard: {faces: faces}\n")
    cluster.write_text("executor: slurm\n")
    done = _command("plan", config, "name=before", "--cluster", cluster, "seed=5")
    assert done.returncode == 0, done.stderr
    assert "/before(slurm)" in "".join(done.stdout.split())  # a long path is folded


def test_a_failed_stage_exits_1_and_names_what_to_mend(tmp_path: Path) -> None:
    """A stage whose every image is broken fails; nobody is shown a traceback."""
    (tmp_path / "faces" / "somebody").mkdir(parents=True)
    (tmp_path / "faces" / "somebody" / "0.jpg").write_text("no image")
    config = tmp_path / "broken.yaml"
    config.write_text("name: broken\nshard: {faces: faces}\n")
    done = _command("shard", config)
    assert done.returncode == 1
    assert "1 of 1 images are not usable" in done.stderr
    assert "raise shard.max_bad_fraction" in done.stderr
    assert "Traceback" not in done.stderr
    log = tmp_path / "runs" / "broken" / "shard" / "logs" / "00000.log"
    assert str(log) in done.stderr
    assert "not usable" in log.read_text()
    status = _command("status", config, COLUMNS="200")
    assert "failed" in status.stdout


@pytest.mark.parametrize(
    ("override", "told"),
    [("shard.faces=nowhere", "nowhere"), ("embedder.weights=no.safetensors", "no.safetensors, no such file")],
)
def test_B44_files_that_are_not_there_are_told_in_one_line(tmp_path: Path, override: str, told: str) -> None:
    (tmp_path / "faces" / "somebody").mkdir(parents=True)
    (tmp_path / "faces" / "somebody" / "0.png").touch()
    config = tmp_path / "lost.yaml"
    config.write_text("name: lost\nshard: {faces: faces}\ntrain-embedder: {sets: [real]}\nembed: {}\n")
    done = _command("plan", config, override)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert told in done.stderr.splitlines()[-1]


def test_faces_of_another_size_than_the_denoiser_works_at_are_refused(tmp_path: Path) -> None:
    (tmp_path / "faces" / "somebody").mkdir(parents=True)
    (tmp_path / "faces" / "somebody" / "0.png").touch()
    config = tmp_path / "sizes.yaml"
    config.write_text(
        "name: sizes\nshard: {faces: faces, image_size: 64}\ntrain-embedder: {sets: [real]}\nembed: {}\n"
        "train-diffusion: {denoiser: {preset: tiny32}}\n"
    )
    done = _command("plan", config)
    assert done.returncode == 1
    assert "train-diffusion.denoiser.image_size: got 32, allowed: that of shard.image_size, 64" in done.stderr


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
