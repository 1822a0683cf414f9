"""Stages of small runs inside the test process, by any number of ranks; faces are those of the demo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import save_file

from cemiface.gandiff.gan.stylegan.config import StyleGan2Config
from jobs.frame.experiment import load_run
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.summary import finish_if_last
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import this_worker

from ...one_rank import plan_stage

ROOT = Path(__file__).parents[4]
ORL, SIZE = ROOT / "data" / "orl", 48
BICUBIC = Image.Resampling.BICUBIC
REAL = range(1, 6)  # people of the demo's faces that stand in for real ones


def photo(person: int, number: int) -> Image.Image:
    """A face of the demo in a larger picture, so that it is not aligned."""
    if not ORL.is_dir():
        pytest.fail(f"{ORL}: the demo's faces are not there; run `make data/orl`, as `make test` does")
    face = Image.open(ORL / f"s{person}" / f"{number}.pgm").convert("RGB").resize((184, 224), BICUBIC)
    picture = Image.new("RGB", (300, 320), (128, 128, 128))
    picture.paste(face, (50, 60))
    return picture


def write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_head(path: Path) -> None:
    """A StyleGAN2 generator of 128 px of which there is only the head, which is all that plans read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = StyleGan2Config(z_width=8, w_width=8, mapping_layers=1, widths=(8, 8, 8, 8, 8, 8))
    metadata = {"architecture": "stylegan2", "config": config.model_dump_json(), "license": "CC0-1.0", "origin": "here"}
    save_file({"weight": np.zeros(1, np.float32)}, path, metadata=metadata)


def configured(root: Path, **sections: Any) -> Run:
    """A run with a few real faces and the demo's E_id; nothing of it has been done."""
    if not (root / "real").exists():
        for person in REAL:
            for number in (1, 2):
                write(
                    photo(person, number).resize((SIZE, SIZE), BICUBIC), root / "real" / f"p{person}" / f"{number}.png"
                )
    config = root / "small.yaml"
    common = {
        "name": "small",
        "method": "gandiffface",
        "seed": 3,
        "shard": {"faces": "real", "image_size": SIZE, "shard_images": 4},
        "embedder": {"weights": str(ROOT / "nets" / "embedder.safetensors")},
        "embed": {},
    }
    config.write_text(yaml.safe_dump({**common, **sections}))
    return load_run(config)


def done(run: Run, *stages: str, ranks: int = 1) -> dict[str, Any]:
    """Do stages from nothing, each by so many ranks, one after the other; returns the summary of the last one."""
    run.folder.create()
    summary: dict[str, Any] = {}
    for name in stages:
        stage, folder = run.stages[name], run.stage_folder(name)
        shutil.rmtree(folder.root, ignore_errors=True)
        stage.check(run)
        stage.check_launch(run)
        plan_stage(run, name)
        for index in range(ranks):
            heartbeat = HeartbeatWriter(folder, worker=this_worker(index))
            rank = Rank(run=run, stage=stage, index=index, count=ranks, stop=StopFlag(), heartbeat=heartbeat)
            stage.run_rank(run, rank)
        assert finish_if_last(run, stage)
        summary = json.loads(folder.summary.read_text())
    return summary
