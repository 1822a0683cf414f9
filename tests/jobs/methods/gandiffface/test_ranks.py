"""The stages of arrays give the same bytes for 1, 3 and 7 ranks; nets have random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from cemiface.diffusion.config import DiffusionConfig
from cemiface.gandiff.gan.config import GanConfig
from cemiface.gandiff.gan.generator import generator_bytes
from cemiface.gandiff.gan.nets import Generator
from cemiface.gandiff.slot_denoiser import SlotDenoiser, base_bytes
from cemiface.gandiff.slots import SlotDenoiserConfig
from jobs.frame.run import Run

from .small_run import configured, done

SIZE = 32
SLOTS = [
    {"name": "gender", "attribute": "male", "bins": {"female": [None, 0.5], "male": [0.5, None]}},
    {"name": "light", "attribute": "light", "bins": {"dark": [None, 0.45], "bright": [0.45, None]}},
]
TUNING = {"steps": 2, "batch": 2, "check_steps": 1, "check_images": 2, "check_sampling_steps": 2, "lora": {"rank": 2}}
STAGES = ("attributes", "candidates", "directions", "identities", "portraits", "personalize", "generate")
ALL = (*STAGES, "study-scores")


def random_nets(root: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(GanConfig.model_validate({"preset": "tiny32"}))
    (root / "generator.safetensors").write_bytes(generator_bytes(generator))
    base = SlotDenoiser(SlotDenoiserConfig.model_validate({"preset": "tiny32", "slots": SLOTS}))
    (root / "base.safetensors").write_bytes(base_bytes(base, diffusion=DiffusionConfig(prediction="velocity")))
    (root / "prompts.yaml").write_text("slots: {light: {dark: {weight: 1}, bright: {weight: 1}}}\n")


def small(root: Path) -> Run:
    return configured(
        root,
        **{
            "shard": {"faces": "real", "image_size": SIZE, "resize": "center", "shard_images": 2},
            "attributes": {},
            "candidates": {"generator": "generator.safetensors", "count": 84, "block": 12, "batch": 6},
            "directions": {"attributes": ["light"], "min_correlation": 0.0, "samples": 200},
            "identities": {"count": 7, "min_face": 0, "max_cosine": 1.0, "max_cosine_to_real": 1.0},
            "portraits": {"count": 2, "edits": {"light": 1.0}, "min_cosine": -1, "identities_per_unit": 1},
            "personalize": {
                "base": "base.safetensors",
                "identities_per_unit": 1,
                "identities_per_batch": 1,
                "tuning": TUNING,
            },
            "generate": {
                "prompts": "prompts.yaml",
                "images_per_identity": 2,
                "steps": 1,
                "min_face": 0,
                "cosine": [-1, 1],
                "max_portrait_cosine": 1.0,
                "identities_per_shard": 1,
            },
            "study-scores": {"sets": ["real", "portraits", "synthetic", "untuned"], "rounds": 20, "cells": []},
        },
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every stage by one rank."""
    root = tmp_path_factory.mktemp("one")
    random_nets(root)
    run = small(root)
    done(run, "shard", "embed", *ALL)
    return run


@pytest.mark.parametrize("ranks", [pytest.param(3, marks=pytest.mark.long), 7])
def test_the_bytes_do_not_depend_on_the_number_of_ranks(one: Run, tmp_path: Path, ranks: int) -> None:
    shutil.copytree(one.root, tmp_path / "copy")
    again = small(tmp_path / "copy")
    outcomes = {stage: one.ledger.outcome(stage) for stage in ALL}
    assert {stage: done(again, stage, ranks=ranks)["outcome"] for stage in ALL} == outcomes
