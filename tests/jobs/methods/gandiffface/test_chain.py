"""The chain of the method, from drawn faces to a published folder, at the smallest size of attribute nets."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.tars.records import is_synthetic, private_field
from shards.tars.shard_set import ShardSet

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[4]
PEOPLE, IMAGES, SIZE = 8, 6, 32
SLOTS = """
      - {name: gender, attribute: male, bins: {female: [null, 0.5], male: [0.5, null]}}
      - {name: light, attribute: light, bins: {dark: [null, 0.45], bright: [0.45, null]}}
"""
CONFIG = f"""
name: small
method: gandiffface
seed: 3
shard: {{faces: faces, image_size: 32, shard_images: 20, held_out_identities: 3}}
train-embedder:
  sets: [real]
  recognition: {{net: ir_tiny, embedding: 32, image_size: 32}}
  margin: {{kind: cosface, scale: 16, margin: 0.1}}
  epochs: 2
  batch: 8
  drop_after_epochs: [1]
  log_images: 16
embed: {{}}
train-gan:
  gan: {{preset: tiny32}}
  images: 64
  batch: 8
  checkpoint_images: 32
  log_images: 32
  frechet_images: 64
  frechet_samples: 40
candidates: {{count: 120, block: 40}}
directions: {{attributes: [light], min_correlation: 0.0, samples: 200}}
identities:
  count: 5
  target: {{gender: {{female: 0.5, male: 0.5}}}}
  min_face: 0
  max_cosine: 1.0
  max_cosine_to_real: 1.0
  if_short: less
portraits: {{count: 3, edits: {{light: 1.0}}, min_cosine: -1, identities_per_unit: 2}}
attributes: {{}}
train-base:
  denoiser:
    preset: tiny32
    slots: {SLOTS}
  diffusion: {{prediction: velocity}}
  images: 64
  batch: 8
  ema_decay: 0.9
  checkpoint_images: 32
  log_images: 32
personalize:
  identities_per_unit: 2
  identities_per_batch: 2
  tuning: {{steps: 2, batch: 2, check_steps: 1, check_images: 2, check_sampling_steps: 2, lora: {{rank: 2}}}}
generate:
  prompts: prompts.yaml
  images_per_identity: 4
  steps: 2
  min_face: 0
  cosine: [-1, 1]
  max_portrait_cosine: 1.0
  identities_per_shard: 2
train-recognition:
  recognition: {{net: ir_tiny, embedding: 32, image_size: 32}}
  margin: {{kind: cosface, scale: 16, margin: 0.1}}
  epochs: 1
  batch: 4
  drop_after_epochs: []
  log_images: 8
study-scores: {{sets: [real, portraits, synthetic], rounds: 20}}
evaluate: {{}}
fingerprint: {{}}
audit: {{false_alarms: 0.3, max_dropped_fraction: 1.0}}
refill: {{}}
settle: {{}}
publish: {{set_name: small-set, creator: the tests, license: LicenseRef-test, consent: Drawn by a program.}}
report: {{title: Small run}}
"""


def draw_faces(folder: Path) -> None:
    """A smooth pattern per person, with other brightness in every image."""
    for person in range(PEOPLE):
        draw = np.random.default_rng(person)
        small = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        pattern = np.asarray(small.resize((SIZE, SIZE)), np.float32)
        home = folder / f"person-{person}"
        home.mkdir(parents=True)
        for image in range(IMAGES):
            pixels = pattern * draw.uniform(0.4, 1.0) + draw.normal(0, 6, pattern.shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(home / f"{image}.png")


def run_all(root: Path, *, ranks: int) -> Path:
    """The run folder of the finished chain."""
    config, cluster = root / "configs" / "small.yaml", root / "configs" / "site.yaml"
    if not config.exists():
        draw_faces(root / "faces")
        config.parent.mkdir()
        config.write_text(CONFIG)
        (root / "prompts.yaml").write_text("slots: {light: {dark: {weight: 1}, bright: {weight: 1}}}\n")
    cluster.write_text(f"array: {{ranks: {ranks}}}\ntrain: {{cpus: 1}}\n")
    command = [sys.executable, "-m", "jobs", "all", str(config), "--cluster", str(cluster)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return root / "runs" / "small"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_all(tmp_path_factory.mktemp("gandiffface"), ranks=1)


def made(run: Path) -> dict[str, str]:
    """The sha256 of everything that the method's stages made."""
    patterns = ("candidates/*.h5", "directions/*.safetensors", "identities/*.json", "portraits/*.tar")
    patterns += ("personalize/*.safetensors", "generate/*.tar", "settle/*.tar")
    skipped = {"plan.json", "summary.json"}
    paths = [path for pattern in patterns for path in sorted(run.glob(pattern)) if path.name not in skipped]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_published_folder_verifies_and_its_card_is_of_this_method(run: Path) -> None:
    folder = run / "publish" / "small-set"
    done = subprocess.run([sys.executable, "verify.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    card = (folder / "README.md").read_text()
    assert "GANDiffFace" in card
    assert "CemiFace: Center" not in card


def test_every_picture_has_its_prompt_and_only_public_fields(run: Path) -> None:
    records = list(ShardSet(sorted((run / "generate").glob("synthetic-*.tar"))).records())
    assert all(is_synthetic(record) and private_field(record) is None for record in records)
    assert {record["asked"]["light"] for record in records} == {"dark", "bright"}
    assert all(record["asked"]["gender"] in {"female", "male"} for record in records)


def test_each_identity_has_an_unedited_portrait_and_edited_ones(run: Path) -> None:
    identities = json.loads((run / "identities" / "identities.json").read_text())["identities"]
    records = list(ShardSet(sorted((run / "portraits").glob("portraits-*.tar"))).records())
    unedited = [record for record in records if record["index"] == 0]
    assert len(unedited) == len(identities)
    assert all(record["asked"] == {} for record in unedited)
    assert any(record["asked"] for record in records)


def test_the_page_shows_identities_portraits_and_score_distributions(run: Path) -> None:
    page = (run / "report" / "index.html").read_text()
    for name in ("identities", "portraits", "score_tables"):
        assert f'id="{name}"' in page


def test_the_bytes_do_not_depend_on_the_number_of_ranks(run: Path) -> None:
    """All stages of arrays are done again by three ranks, from the same nets."""
    before = made(run)
    for stage in ("candidates", "directions", "identities", "portraits", "personalize", "generate", "settle"):
        for path in [*(run / stage / "done").glob("*.json"), run / stage / "summary.json"]:
            path.unlink()
        for path in (run / stage).glob("*.*"):
            if path.is_file() and path.name != "plan.json":
                path.unlink()
    run_all(run.parents[1], ranks=3)
    assert made(run) == before
