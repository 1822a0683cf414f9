"""The command line: help with examples, wrong usage refused before anything starts, exit codes."""
# ruff: noqa: N802

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.command.main import main
from jobs.command.parser import parse
from jobs.command.verbs import CONFIGS, DEMO, STAGES, TOOLS, VERBS
from jobs.frame.experiment import load_run

from ..chain_config import CHAIN

ROOT = Path(__file__).parents[3]


def _command(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize("command", [*VERBS, "demo", "import", "export", "import-generator", "explain"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert re.search(rf"^examples?:\n  cemiface {command}\b", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("command", VERBS)
def test_examples_of_the_help_can_be_run(command: str) -> None:
    for example in VERBS[command].examples:
        options = parse([command, *example.split()])
        run = load_run(ROOT / options.config, overrides=options.overrides, cluster=options.cluster)
        assert command in {*TOOLS, "all"} or run.includes(command)
        assert options.stage is None or run.includes(options.stage)


def test_the_examples_use_the_demo_wherever_it_has_the_stage() -> None:
    demo = load_run(ROOT / DEMO)
    assert set(CONFIGS) == {name for name in STAGES if name not in demo.stages or not demo.includes(name)}


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (["why", "{config}", "generate", "0", "1"], "too many arguments"),
        (["why", "{config}", "generate", "--rank", "first"], "got first, allowed: 0 or more"),
        (["run-rank", "{config}", "generate"], "run-rank: needs STAGE RANK"),
        (["cancel", "{config}", "publish"], "the stage publish is not part of this run"),
    ],
)
def test_wrong_usage_and_wrong_configs_exit_2_and_start_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    config = tmp_path / "chain.yaml"
    config.write_text(CHAIN)
    done = _command(*(argument.format(config=config) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chain.yaml"]


def test_overrides_may_stand_before_and_behind_options(tmp_path: Path) -> None:
    (tmp_path / "faces" / "person").mkdir(parents=True)
    (tmp_path / "faces" / "person" / "0.png").touch()
    config, cluster = tmp_path / "plan.yaml", tmp_path / "site.yaml"
    config.write_text("name: plan\nshard: {faces: faces}\n")
    cluster.write_text("executor: slurm\n")
    done = _command("plan", config, "name=before", "--cluster", cluster, "seed=5")
    assert done.returncode == 0, done.stderr
    assert "/before(slurm)" in "".join(done.stdout.split())  # a long path is folded


def test_a_failed_stage_exits_1_and_names_what_to_fix(tmp_path: Path) -> None:
    """A stage whose every image is broken fails without a traceback."""
    (tmp_path / "faces" / "person").mkdir(parents=True)
    (tmp_path / "faces" / "person" / "0.jpg").write_text("no image")
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
    ("override", "message"),
    [("shard.faces=nowhere", "nowhere"), ("embedder.weights=no.safetensors", "no.safetensors, no such file")],
)
def test_B44_files_that_are_not_there_are_reported_in_one_line(tmp_path: Path, override: str, message: str) -> None:
    (tmp_path / "faces" / "person").mkdir(parents=True)
    (tmp_path / "faces" / "person" / "0.png").touch()
    config = tmp_path / "lost.yaml"
    config.write_text("name: lost\nshard: {faces: faces}\ntrain-embedder: {sets: [real]}\nembed: {}\n")
    done = _command("plan", config, override)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_faces_of_another_size_than_the_denoiser_works_at_are_refused(tmp_path: Path) -> None:
    (tmp_path / "faces" / "person").mkdir(parents=True)
    (tmp_path / "faces" / "person" / "0.png").touch()
    config = tmp_path / "sizes.yaml"
    config.write_text(
        "name: sizes\nshard: {faces: faces, image_size: 64}\ntrain-embedder: {sets: [real]}\nembed: {}\n"
        "train-diffusion: {denoiser: {preset: tiny32}}\n"
    )
    done = _command("plan", config)
    assert done.returncode == 1
    assert "train-diffusion.denoiser.image_size: got 32, allowed: that of shard.image_size, 64" in done.stderr
