"""Calibration: what the stage refuses, its part of the report, and that it does what it is for."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run
from jobs.methods.cemiface.calibrate.plan import CalibrateFaces
from jobs.methods.cemiface.report_parts.calibration import calibration
from jobs.report.part import Sets
from slurm.files import publish_json

from ..commands import Project

NOTHING = Sets(real=None, held_out=None, synthetic=None)
# Cosines of this E_id, trained on 5 drawn people, have a spread of 0.5 between images of one identity. The means of 576
# images of the pilot and of 720 generated ones are then known to 0.02 each, and 0.1 is three and a half times both.
SECTIONS = (
    "calibrate={identities: 12, images_per_identity: 48, grid: {low: -1, high: 1, interval: 0.25}}",
    "identities.count=12",
    "identities.candidates=16",
    "identities.steps=10",
    "generate.steps=10",
)
# What makes a net of 16 pixels follow m within a minute: a larger weight of the similarity loss, more tokens.
QUICK = (
    "train-diffusion.images=6000",
    "train-diffusion.learning_rate=0.001",
    "train-diffusion.loss.weight=0.5",
    "train-diffusion.ema_decay=0.99",
    "train-diffusion.denoiser.condition_tokens=8",
    "train-diffusion.log_images=600",
    "train-diffusion.checkpoint_images=3000",
)


def test_without_generate_there_is_nothing_to_calibrate(tmp_path: Path) -> None:
    stages = ("train-embedder", "embed", "train-diffusion", "identities", "calibrate")
    config = tmp_path / "some.yaml"
    config.write_text("name: some\nshard: {faces: faces}\n" + "".join(f"{stage}: {{}}\n" for stage in stages))
    run = load_run(config)
    with pytest.raises(ConfigError, match="calibrate: measures how `generate` samples; add a section"):
        run.ledger.plan("calibrate")


@pytest.mark.parametrize("grid", [{"interval": None}, {"low": 0.0, "high": 0.0}])
def test_one_value_of_m_is_no_pilot(grid: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="grid: got no interval or one value"):
        CalibrateFaces.model_validate({"grid": grid})


def test_generated_cosines_need_the_pilot_and_a_changed_sampler_makes_it_stale(tiny_run: Any) -> None:
    run = load_run(tiny_run.config, overrides=["calibrate={}", "generate.target=cosine"])
    assert "calibrate" in run.stages["generate"].needs(run)
    other = load_run(tiny_run.config, overrides=["calibrate={}", "generate.solver=adams"])
    assert run.ledger.fingerprint(run.stages["calibrate"]) != other.ledger.fingerprint(other.stages["calibrate"])


@pytest.mark.parametrize("after", [[], [{"cosine": 0.2, "mean": 0.22, "std": 0.1, "images": 8}]])
def test_the_report_shows_requested_and_measured_cosines(tmp_path: Path, tiny_run: Any, after: list[Any]) -> None:
    run = load_run(tiny_run.config, overrides=["calibrate={}", f"runs={tmp_path}"])
    pilot = [{"m": m, "mean": 0.2 + m / 10, "std": 0.1, "images": 8} for m in (-1.0, 0.0, 1.0)]
    figures = {"measured_cosine": pilot, "reachable": [0.1, 0.3]}
    generated = json.loads((tiny_run.folder / "generate" / "summary.json").read_text())
    publish_json(run.stage_folder("calibrate").summary, generated | {"figures": figures})
    publish_json(run.stage_folder("generate").summary, generated | {"figures": {"wished_cosine": after}})
    shown = calibration(run, NOTHING)
    assert shown is not None
    assert [row["cosine"] for row in shown["before"]] == [-1, 0, 1]
    assert shown["worst"] == (pytest.approx(0.02) if after else None)
    assert "before: 0.10 for -1" in shown["chart"]


@pytest.mark.long
def test_a_short_training_follows_m_and_images_have_the_requested_cosine(tiny_run: Any, tmp_path: Path) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "project")
    fields = (*SECTIONS, *QUICK)
    for stage in ("train-diffusion", "identities", "calibrate"):
        done = project.run(stage, *fields)
        assert done.returncode == 0, done.stderr
    curve = [row["mean"] for row in project.summary("calibrate")["figures"]["measured_cosine"]]
    assert sum(a < b for a, b in itertools.pairwise(curve)) >= 7  # of 8
    cosines = json.loads((project.runs / "calibrate" / "calibration.json").read_text())["cosine"]
    low, high = cosines[0], cosines[-1]
    assert high - low > 0.2

    requested = [round(low + share * (high - low), 3) for share in (0.1, 0.5, 0.9)]
    overrides = (f"generate.similarity={requested}", "generate.target=cosine", "generate.images_per_identity=180")
    done = project.run("generate", *fields, *overrides)
    assert done.returncode == 0, done.stderr
    for row in project.summary("generate")["figures"]["wished_cosine"]:
        assert row["mean"] == pytest.approx(row["cosine"], abs=0.1)
