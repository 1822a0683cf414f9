"""Training the base and personalizing it: what the stages write, and that kills and numbers of ranks change nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cemiface.gandiff.personal.adapters import AdapterPack
from cemiface.gandiff.slot_denoiser import SlotDenoiser, base_bytes, load_base
from cemiface.weights import read_weights
from shards.images.jpeg import decode_rgb
from shards.privacy.lineage import read_lineage

from ..commands import PROJECT, SECONDS, Project, kill_group, sha256, wait_until
from ..conftest import set_up

HERE = Path(__file__).parent
LIGHT = "{name: light, attribute: light, bins: {dark: [null, 0.5], bright: [0.5, null]}}"
CONFIG = f"""
name: tiny
method: base
seed: 3
embedder: {{weights: {PROJECT / "nets" / "embedder.safetensors"}}}
shard: {{faces: faces, name: Drawn people, image_size: 16, shard_images: 20, max_bad_fraction: 0.1}}
attributes: {{}}
train-base:
  denoiser: {{preset: tiny32, image_size: 16, multipliers: [1, 1], attention_levels: [1], slots: [{LIGHT}]}}
  diffusion: {{prediction: velocity}}
  min_face: 0
  images: 96
  batch: 8
  checkpoint_images: 16
  log_images: 8
  sample_images: 48
identities: {{count: 5}}
portraits: {{count: 3, identities_per_unit: 3}}
personalize:
  identities_per_unit: 3
  identities_per_batch: 2
  tuning:
    steps: 4
    batch: 2
    prior_weight: 1
    class_images: 4
    check_steps: 2
    check_images: 1
    check_sampling_steps: 2
    lora: {{rank: 2}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A finished run. The method is installed as a package of its own would be."""
    root = tmp_path_factory.mktemp("base") / "project"
    installed = root.parent / "installed"
    package = installed / "base_method-1.0.dist-info"
    package.mkdir(parents=True)
    for name in ("base_method.py", "toy_method.py"):
        shutil.copy(HERE / name, installed)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: base-method\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[cemiface.methods]\nbase = base_method:METHOD\n")
    config, _ = set_up(root)
    config.write_text(CONFIG)
    project = Project(root=root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{installed}")
        done = project.run("all")
        assert done.returncode == 0, done.stderr[-4000:]
        yield project


@pytest.fixture
def again(made: Project, tmp_path: Path) -> Project:
    """A copy, free to be changed."""
    shutil.copytree(made.root, tmp_path / "project")
    return Project(root=tmp_path / "project")


def _packs(project: Project) -> dict[str, str]:
    return project.hashes("personalize/adapters-*") | project.hashes("personalize/curves-*")


def test_the_base_is_loaded_from_its_file_and_says_what_it_learned_from(made: Project) -> None:
    path = made.runs / "train-base" / "base.safetensors"
    denoiser, diffusion = load_base(path)
    assert [slot.name for slot in denoiser.config.slots] == ["light"]
    assert diffusion.prediction == "velocity"
    (faces,) = read_lineage(read_weights(path)[1], net="base")
    assert (faces.name, faces.identities) == ("Drawn people", 8)


def test_real_faces_are_measured_per_tar(made: Project) -> None:
    tars = sorted((made.runs / "shard").glob("real-*.tar"))
    tables = sorted((made.runs / "attributes").glob("attributes-*.h5"))
    assert len(tars) == len(tables) > 1
    assert 0 < made.summary("attributes")["figures"]["light"]["mean"] < 1


def test_sheets_have_a_row_per_value_and_the_share_as_asked(made: Project) -> None:
    folder = made.runs / "train-base" / "samples"
    assert sorted(path.name for path in folder.glob("*.jpg")) == ["000000000048.jpg", "000000000096.jpg"]
    assert decode_rgb((folder / "000000000096.jpg").read_bytes()).shape == (2 * 16, 8 * 16, 3)
    assert json.loads((folder / "rows.json").read_text()) == [["light", "dark"], ["light", "bright"]]
    lines = [json.loads(line) for line in (folder / "slots.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [48, 96]
    assert all(0 <= line["light"] <= 1 for line in lines)


def test_a_training_that_was_killed_ends_in_the_same_bytes(made: Project, again: Project) -> None:
    again.forget("train-base", "personalize")
    launcher = again.start("all", "train-base.images=4000000")  # checkpoints do not depend on the length
    wait_until(lambda: again.trained("train-base") >= 40, what="40 images")
    kill_group(launcher, signal.SIGKILL)
    launcher.communicate(timeout=SECONDS)
    wait_until(lambda: again.processes() == [], what="no process left")
    kept = sorted((again.runs / "train-base" / "checkpoints").glob("step-*"))
    for late in [path for path in kept if int(path.name.removeprefix("step-")) > 80]:
        shutil.rmtree(late)
    done = again.run("train-base")
    assert done.returncode == 0, done.stderr
    name = "train-base/base.safetensors"
    assert sha256(again.runs / name) == sha256(made.runs / name)


def test_a_slot_that_no_net_measures_at_this_size_is_refused(again: Project) -> None:
    age = "{name: age, attribute: age, bins: {young: [0, 40], old: [40, null]}}"
    failed = again.run("plan", f"train-base.denoiser.slots=[{age}]")
    assert failed.returncode != 0
    assert "train-base.denoiser.slots: age at 16 px: the net" in failed.stderr
    failed = again.run("plan", "train-base.denoiser.image_size=32")
    assert "train-base.denoiser.image_size: got 32, allowed: that of shard.image_size, 16" in failed.stderr


def test_every_identity_has_an_adapter_and_a_curve(made: Project) -> None:
    folder = made.runs / "personalize"
    packs = [AdapterPack(path) for path in sorted(folder.glob("adapters-*.safetensors"))]
    assert [pack.names for pack in packs] == [("000000", "000001", "000002"), ("000003", "000004")]
    base = made.runs / "train-base" / "base.safetensors"
    assert {pack.metadata["base"] for pack in packs} == {sha256(base)}
    curves = json.loads((folder / "curves-00000.json").read_text())
    assert {name: found["portraits"] for name, found in curves.items()} == {"000000": 3, "000001": 3, "000002": 1}
    assert [line["step"] for line in curves["000000"]["curve"]] == [0, 2, 4]
    figures = made.summary("personalize")["figures"]
    assert figures["identities"] == 5
    assert -1 <= figures["cosine_to_held_out"]["untuned"] <= 1
    assert not list((folder / "kept").glob("*.safetensors"))


def test_batches_learned_before_a_kill_are_kept_and_the_bytes_are_the_same(made: Project, again: Project) -> None:
    folder = again.runs / "personalize"
    again.forget("personalize")
    launcher = again.start("personalize")
    wait_until(lambda: list((folder / "kept").glob("*.safetensors")), what="a batch that is kept")
    kill_group(launcher, signal.SIGKILL)
    launcher.communicate(timeout=SECONDS)
    wait_until(lambda: again.processes() == [], what="no process left")
    done = again.run("personalize", cluster="array: {ranks: 2}\n")
    assert done.returncode == 0, done.stderr
    assert _packs(again) == _packs(made)


def test_a_kept_batch_is_taken_if_it_is_whole_and_of_this_unit(made: Project, again: Project) -> None:
    """A pack without any adapter in the place of the first batch: it is not that of this unit, so it is learned."""
    folder = again.runs / "personalize"
    again.forget("personalize")
    (folder / "kept").mkdir(parents=True)
    pack = made.runs / "personalize" / "adapters-00000.safetensors"
    (folder / "kept" / "adapters-00000.safetensors.0.safetensors").write_bytes(pack.read_bytes())
    (folder / "kept" / "adapters-00000.safetensors.1.safetensors").write_bytes(pack.read_bytes()[:100])
    done = again.run("personalize")
    assert done.returncode == 0, done.stderr
    assert _packs(again) == _packs(made)


def test_the_plan_states_the_work_and_its_calculation(again: Project) -> None:
    again.forget("personalize")
    planned = again.run("plan")
    assert "5 identities x 4 steps x 2 noised portraits and as many class pictures" in " ".join(planned.stdout.split())


def test_portraits_of_another_size_than_the_base_are_one_line(again: Project) -> None:
    again.forget("personalize")
    other = again.root / "other.safetensors"
    denoiser, diffusion = load_base(again.runs / "train-base" / "base.safetensors")
    torch.manual_seed(0)
    larger = SlotDenoiser(denoiser.config.model_copy(update={"image_size": 32}))
    other.write_bytes(base_bytes(larger, diffusion=diffusion))
    failed = again.run("personalize", "personalize.base=other.safetensors")
    assert failed.returncode != 0
    assert "portraits are 16 px, the base makes 32 px" in failed.stderr
    assert "Traceback" not in failed.stderr
