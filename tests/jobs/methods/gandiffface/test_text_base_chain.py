"""The chain with a Stable Diffusion folder as the base and a given generator: offline, from real faces to the report.

The folder and the generator have random weights, so there is no face in any picture; `min_face: 0` keeps them whole.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cemiface.gandiff.gan.config import GanConfig
from cemiface.gandiff.gan.generator import generator_bytes
from cemiface.gandiff.gan.nets import Generator
from cemiface.gandiff.personal.adapters import AdapterPack
from cemiface.gandiff.personal.lora import TOKEN
from cemiface.gandiff.slots import DEFAULT_SLOTS
from jobs.frame.experiment import load_run_folder
from jobs.frame.method import ImageRequest
from jobs.frame.rank import Rank, Work
from shards.tars.records import is_synthetic, private_field
from shards.tars.shard_set import ShardSet
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import this_worker

from ....tiny_sd import write_folder
from ...commands import PROJECT, SECONDS, Project, kill_group, wait_until
from ...conftest import set_up

pytestmark = pytest.mark.long

GRAMMAR = """
sentence: photo of {subject}
negative_text: a hat
slots:
  pose:
    left: {phrase: looking left, shows: {yaw: [null, -7]}}
    right: {phrase: looking right, shows: {yaw: [7, null]}}
  accessory: {none: {}, hat: {phrase: with a hat}}
"""
WORDS = ("photo", "of", "a", "an", "with", "hat", "looking", "left", "right", "portrait", "woman", "man", "person")
WORDS += ("facing", "the", "camera", "profile", "view", "to", "up", "down", "mouth", "open", "neutral", "expression")
WORDS += ("smiling", "dim", "bright", "light")
CONFIG = f"""
name: tiny
method: gandiffface
seed: 3
embedder: {{weights: {PROJECT / "nets" / "embedder.safetensors"}}}
shard: {{faces: faces, image_size: 32, resize: center, shard_images: 20, held_out_identities: 3, max_bad_fraction: 0.1}}
embed: {{}}
candidates: {{generator: generator.safetensors, align: true, count: 90, block: 45}}
directions: {{attributes: [light], min_correlation: 0, samples: 200}}
identities: {{count: 4, min_face: 0, max_cosine: 1.0, max_cosine_to_real: 1.0}}
portraits: {{count: 3, edits: {{light: 1.0}}, min_cosine: -1, identities_per_unit: 2, originals: true}}
personalize:
  text_base: {{folder: sd}}
  text_base_source: {{license: CC0-1.0, origin: the tests}}
  identities_per_unit: 3
  identities_per_batch: 2
  tuning:
    steps: 4
    check_steps: 2
    check_images: 1
    check_sampling_steps: 2
    class_images: 2
    max_copying: 1.0
    lora: {{rank: 2}}
generate:
  prompts: prompts.yaml
  images_per_identity: 4
  steps: 2
  guidance: 5
  min_face: 0
  cosine: [-1, 1]
  max_portrait_cosine: 1.0
  identities_per_shard: 2
  originals: true
train-recognition:
  recognition: {{net: ir_tiny, embedding: 32, image_size: 32}}
  margin: {{kind: cosface, scale: 16, margin: 0.1}}
  epochs: 1
  batch: 4
  drop_after_epochs: []
  log_images: 8
study-scores: {{sets: [real, portraits, synthetic, untuned], rounds: 20}}
evaluate: {{}}
fingerprint: {{}}
audit:
  false_alarms: 0.3
  max_dropped_fraction: 1.0
  accept_unchecked:
    - "unknown origin: personalize.text_base"
    - "unknown origin: candidates.generator"
    - "Labeled Faces in the Wild, View 1 training people"
refill: {{}}
settle: {{}}
publish:
  set_name: small-set
  creator: the tests
  license: LicenseRef-test
  governance:
    real_data:
      - {{name: shard.faces, basis: drawn by a program, agreement: nobody was photographed}}
      - {{name: "unknown origin: personalize.text_base", basis: not determined, agreement: not known}}
      - {{name: "unknown origin: candidates.generator", basis: not determined, agreement: not known}}
      - {{name: "Labeled Faces in the Wild, View 1 training people", basis: not determined, agreement: not asked}}
    leaving_out: Nobody is in it.
    uses: Testing this suite.
    uses_not_allowed: None.
    contact: tests@example.org
    retention: Until the tests end.
report: {{title: Small run}}
"""


def written(root: Path) -> Project:
    """A user's folder: faces, a generator and a Stable Diffusion folder of random weights, prompts and a config."""
    config, _ = set_up(root)
    config.write_text(CONFIG)
    (root / "prompts.yaml").write_text(GRAMMAR)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(GanConfig.model_validate({"preset": "tiny32", "image_size": 64}))
    (root / "generator.safetensors").write_bytes(generator_bytes(generator))
    write_folder(root / "sd", words=WORDS)
    return Project(root=root)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A finished run. Nothing could be fetched: all proxies are closed doors, and the Hub's cache stays away."""
    project = written(tmp_path_factory.mktemp("text") / "project")
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**closed, "HF_HOME": str(project.root / "hub"), "PYTHONPATH": str(PROJECT)}.items():
            patch.setenv(name, value)
        done = project.run("all")
        assert done.returncode == 0, done.stderr[-4000:]
        assert not [path for path in (project.root / "hub").rglob("*") if path.is_file()]
        yield project


def records_of(run: Path, pattern: str) -> list[dict[str, Any]]:
    return list(ShardSet(sorted(run.glob(pattern))).records())


def test_the_published_folder_verifies_and_says_what_the_base_learned_from(made: Project) -> None:
    folder = made.runs / "publish" / "small-set"
    done = subprocess.run([sys.executable, "verify.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    card = (folder / "README.md").read_text()
    assert "unknown origin: personalize.text_base" in card
    assert "Given, base of the pictures: Stable Diffusion, license: CC0-1.0, origin: the tests." in card
    assert not list(folder.glob("originals-*"))
    assert (made.runs / "study-scores" / "untuned.tar").exists()
    assert not list(folder.rglob("untuned*"))


def test_pictures_have_the_sets_size_and_their_originals_lie_beside(made: Project) -> None:
    faces = ShardSet(sorted((made.runs / "generate").glob("synthetic-*.tar")))
    whole = ShardSet(sorted((made.runs / "generate").glob("originals-*.tar")))
    assert faces.keys == whole.keys
    assert len(faces) == 16
    assert faces.rgb(0).shape == (32, 32, 3)
    assert whole.rgb(0).shape == (32, 32, 3)  # the base's own
    portraits = ShardSet(sorted((made.runs / "portraits").glob("originals-*.tar")))
    assert portraits.rgb(0).shape == (64, 64, 3)  # the generator's


def test_what_was_asked_is_recorded_and_missed_slots_are_counted(made: Project) -> None:
    records = records_of(made.runs, "generate/synthetic-*.tar")
    assert all(is_synthetic(record) and private_field(record) is None for record in records)
    assert {record["asked"]["pose"] for record in records} == {"left", "right"}
    assert {record["asked"]["accessory"] for record in records} == {"none", "hat"}
    gender = next(slot for slot in DEFAULT_SLOTS if slot.name == "gender")
    for record in records:
        asked, yaw = record["asked"], record["measured_yaw"]
        missed = yaw > -7 if asked["pose"] == "left" else yaw < 7
        missed += "gender" in asked and gender.value_of(record["measured_male"]) != asked["gender"]
        assert record["missed_slots"] == missed
        assert record["measured_face"] == 0  # none was found


def test_adapters_are_of_the_attention_alone_unless_the_config_says_otherwise(made: Project) -> None:
    pack = AdapterPack(made.runs / "personalize" / "adapters-00000.safetensors")
    assert pack.names == ("000000", "000001", "000002")
    tensors = pack.read("000000")
    assert all("attn" in name for name in tensors if name != TOKEN)
    tuning = json.loads(pack.metadata["tuning"])
    assert (tuning["batch"], tuning["lora"], tuning["prior_weight"]) == (
        1,
        {"rank": 2, "alpha": None, "layers": "attention"},
        1.0,
    )


def test_a_dropped_picture_is_made_again_by_the_same_prompt_with_other_noise(made: Project) -> None:
    run = load_run_folder(made.runs)
    stage, folder = run.stages["refill"], run.stage_folder("refill")
    heartbeat = HeartbeatWriter(folder, worker=this_worker(0))
    rank = Rank(run=run, stage=stage, index=0, count=1, stop=StopFlag(), heartbeat=heartbeat)
    work: Work[Any] = Work(rank, 0, run.ledger.plan("refill").units[0])
    remaker, request = run.method.load_remaker(run, device=torch.device("cpu")), ImageRequest(identity=1, index=2)
    first, same, other = (next(iter(remaker.remake([request], attempt=attempt, work=work))) for attempt in (1, 1, 2))
    (generated,) = (
        record
        for record in records_of(made.runs, "generate/synthetic-*.tar")
        if (record["identity"], record["index"]) == (first.record["identity"], 2)
    )
    assert first.jpeg == same.jpeg != other.jpeg
    assert first.record["asked"] == other.record["asked"] == generated["asked"]
    assert (first.record["attempt"], other.record["attempt"]) == (1, 2)
    assert len({generated["seed"], first.record["seed"], other.record["seed"]}) == 3


def test_a_cut_pack_is_one_line_and_a_kill_and_three_ranks_change_no_byte(made: Project, tmp_path: Path) -> None:
    again = Project(root=Path(shutil.copytree(made.root, tmp_path / "project")))
    again.forget("generate")
    os.truncate(again.runs / "personalize" / "adapters-00000.safetensors", 3000)
    cut = again.run("generate")
    line = cut.stderr.strip().splitlines()[-1]
    assert cut.returncode != 0
    assert "Traceback" not in cut.stderr
    assert "damaged output: adapters-00000.safetensors has 3000 bytes" in line
    assert "run personalize first" in line
    again.forget("personalize")
    launcher = again.start("personalize")
    kept = again.runs / "personalize" / "kept"
    wait_until(lambda: list(kept.glob("*.safetensors")), what="a batch that is kept")
    kill_group(launcher, signal.SIGKILL)
    launcher.communicate(timeout=SECONDS)
    wait_until(lambda: again.processes() == [], what="no process left")
    for stage in ("personalize", "generate"):
        done = again.run(stage, cluster="array: {ranks: 3}\n")
        assert done.returncode == 0, done.stderr
        assert again.hashes(f"{stage}/*-*.*") == made.hashes(f"{stage}/*-*.*") != {}
