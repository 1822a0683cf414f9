"""One small run of the whole chain, made once for all tests by the real command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.frame.methods import find_method
from jobs.frame.run import Run
from slurm.locks import locked

from .one_rank import copied_run

PEOPLE, IMAGES, SIZE = 8, 6, 16
CONFIG = """
name: tiny
seed: 3
shard: {faces: faces, image_size: 16, shard_images: 20, held_out_identities: 3, max_bad_fraction: 0.1}
train-embedder:
  sets: [real]
  recognition: {net: ir_tiny, embedding: 32, image_size: 16}
  margin: {kind: cosface, scale: 16, margin: 0.1}
  epochs: 4
  batch: 8
  drop_after_epochs: [3]
  log_images: 16
embed: {}
train-diffusion:
  denoiser: {preset: tiny32, image_size: 16, multipliers: [1, 1], attention_levels: [1]}
  images: 64
  batch: 8
  checkpoint_images: 32
  log_images: 16
identities: {source: denoiser, count: 4, candidates: 6, block: 3, max_cosine: 1.0, steps: 2}
generate: {images_per_identity: 4, similarity: [0.0, 1.0], steps: 2, identities_per_shard: 2}
train-recognition:
  recognition: {net: ir_tiny, embedding: 32, image_size: 16}
  margin: {kind: cosface, scale: 16, margin: 0.1}
  epochs: 2
  batch: 8
  drop_after_epochs: [1]
  log_images: 8
evaluate: {}
fingerprint: {}
audit: {false_alarms: 0.3, max_dropped_fraction: 1.0}
settle: {}
publish:
  set_name: tiny-set
  creator: the tests
  license: LicenseRef-test
  governance:
    real_data:
      - {name: shard.faces, basis: drawn by a program, agreement: nobody was photographed}
    leaving_out: Nobody is in it.
    uses: Testing this suite.
    uses_not_allowed: None.
    contact: tests@example.org
    retention: Until the tests end.
report: {title: Tiny run}
"""
GOVERNANCE = "  governance:" + CONFIG.partition("  governance:")[2].partition("report:")[0]  # of the section publish
RECIPE = CONFIG.partition("train-recognition:\n")[2].partition("evaluate:")[0]  # of a net that trains in seconds
CHAIN = tuple(stage for stage in find_method("cemiface").chain if f"\n{stage}:" in CONFIG)  # of the tiny run


@dataclass(frozen=True, kw_only=True)
class TinyRun:
    """A finished run: its config file, as a user wrote it, and its run folder."""

    config: Path
    folder: Path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """All stages done, with one broken image among the inputs. Copy it before changing it.

    It is made by the test process that asks first; the others wait for it.
    """
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if parallel else base) / "tiny"
    with locked(root.with_suffix(".lock"), stop=None):
        finished = root.with_suffix(".finished")
        if not finished.exists():
            shutil.rmtree(root, ignore_errors=True)
            _run_all(root)
            finished.touch()
    return TinyRun(config=root / "configs" / "tiny.yaml", folder=root / "runs" / "tiny")


def _run_all(root: Path) -> None:
    config, cluster = set_up(root)
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "all", str(config), "--cluster", str(cluster)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def copied(tiny_run: TinyRun, tmp_path: Path) -> Run:
    """The finished run, elsewhere and free to be changed."""
    return copied_run(tiny_run, tmp_path, faces=True)


def set_up(root: Path) -> tuple[Path, Path]:
    """A user's folder with faces, a config and a cluster file; returns the latter two."""
    _draw_faces(root / "faces")
    config, cluster = root / "configs" / "tiny.yaml", root / "configs" / "one_core.yaml"
    config.parent.mkdir()
    config.write_text(CONFIG)
    cluster.write_text("array: {ranks: 1}\ntrain: {cpus: 1}\n")
    return config, cluster


def _draw_faces(folder: Path) -> None:
    """A smooth pattern per person; images of one person differ in brightness and noise."""
    for person in range(PEOPLE):
        draw = np.random.default_rng(person)
        pattern = np.asarray(
            Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((SIZE, SIZE)), np.float32
        )
        home = folder / f"person-{person}"
        home.mkdir(parents=True)
        for image in range(IMAGES):
            pixels = pattern * draw.uniform(0.7, 1.0) + draw.normal(0, 6, pattern.shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(home / f"{image}.png")
    (folder / "person-0" / "empty.jpg").touch()
