"""What `plan` says and refuses of a run whose base is a Stable Diffusion folder. Nothing of the folder is loaded."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cemiface.errors import ModelError
from cemiface.gandiff.text.parts import UNetPart, VaePart
from cemiface.gandiff.text.text_base_cost import base_cost
from jobs.frame.experiment import load_run
from jobs.frame.run import Run
from jobs.methods.gandiffface.generate.plan import GeneratePictures
from jobs.methods.gandiffface.identities.plan import identities_of
from jobs.methods.gandiffface.lineage import lineage
from jobs.methods.gandiffface.personalize.opened import open_base
from jobs.methods.gandiffface.personalize.plan import Personalize, base_hash
from jobs.methods.gandiffface.personalize.plan import files as personalize_files
from jobs.methods.gandiffface.personalize.text_base import hours_of
from jobs.methods.gandiffface.portraits.plan import MakePortraits
from shards.privacy.lineage import DataSet, unknown_origin

from ....cemiface.gandiff.text.test_text_base_cost import SD15, VAE
from ....tiny_sd import write_folder
from ...commands import PROJECT
from ...conftest import set_up
from .small_run import write_head

CONFIG = """
name: tiny
method: gandiffface
embedder: {weights: embedder.safetensors}
shard: {faces: faces, image_size: 32, resize: center, max_bad_fraction: 0.1}
embed: {}
candidates: {generator: generator.safetensors, align: true}
directions: {}
identities: {count: 40, max_cosine: 1.0}
portraits: {count: 3, originals: true}
personalize: {text_base: {folder: sd}}
generate: {}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Path:
    path, _ = set_up(tmp_path)
    path.write_text(CONFIG)
    shutil.copytree(folder, tmp_path / "sd")
    write_head(tmp_path / "generator.safetensors")
    shutil.copy(PROJECT / "nets" / "embedder.safetensors", tmp_path / "embedder.safetensors")
    return path


def planned(config: Path, *overrides: str, cluster: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`cemiface plan`, which fails if it imports what opens nets."""
    heavy = ("torch", "diffusers", "transformers")
    arguments = ["plan", str(config), *(["--cluster", str(cluster)] if cluster else []), *overrides]
    code = (
        "import sys\nfrom jobs.command.main import main\n"
        f"try: main({arguments!r})\n"
        "finally:\n"
        f"    found = [name for name in {heavy!r} if name in sys.modules]\n"
        "    assert not found, found\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "250"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=PROJECT
    )


def test_twenty_prompts_are_shown_as_they_are_given_and_hours_with_their_calculation(config: Path) -> None:
    done = planned(config)
    lines = done.stdout.splitlines()
    prompts = [line for line in lines if line.startswith("  portrait photo of <identity> person")]
    assert len(prompts) == 20, done.stderr
    assert len({line.partition("person, ")[2] for line in prompts}) > 10
    assert any(line.startswith("learning: 40 identities x 800 steps x 2 samples x 2 passes") for line in lines)
    assert any("pictures: 40 x 50 x 1.1 x (12 steps x 2 x" in line for line in lines)
    assert any(line.startswith("personalize and generate: in all") and "torch2.0.md" in line for line in lines)


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / "sd" / name).write_bytes(data)

    return write


def _request_code(root: Path) -> None:
    path = root / "sd" / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoModel": "own.Net"}}))


def _cut(root: Path) -> None:
    path = root / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def _gone(root: Path) -> None:
    shutil.rmtree(root / "sd")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_write("unet/diffusion_pytorch_model.bin", b"\x80\x04"), "diffusion_pytorch_model.bin: only safetensors"),
        (_write("vae/weights.pkl", pickle.dumps({"a": 1})), "weights.pkl: only safetensors"),
        (_write("unet/own.py", b"print('run')"), "own.py: only safetensors"),
        (_request_code, "asks for code"),
        (_cut, "diffusion_pytorch_model.safetensors"),
        (_gone, "no such folder; give a Stable Diffusion folder"),
    ],
)
def test_a_folder_that_cannot_be_trusted_or_used_is_one_line(
    config: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(config.parents[1])
    done = planned(config)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "personalize.text_base: " in line
    assert said in line


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("personalize.text_base.image_size=30", "personalize.text_base: image_size: got 30; allowed: a multiple of 4"),
        ("personalize.base=base.safetensors", "text_base: got sd beside base base.safetensors; allowed: one of them"),
        (
            "personalize={base: base.safetensors, text_base_source: {license: MIT, origin: us}}",
            "text_base_source: got one without text_base; a file of train-base says itself where it is from",
        ),
        ("personalize={base: sd}", "personalize.base: got sd, a folder; give a Stable Diffusion folder as"),
        ("generate.prompts=slots.yaml", "prompts.slots.yaw: got no phrase"),
        ("generate.prompts=shows.yaml", "generate.prompts: shows:"),
        ("candidates.align=false", "portraits.originals: got true; allowed: false, or true with candidates.align"),
        ("personalize.tuning.steps=50", "check_steps: got 100; allowed: at most steps, 50"),
    ],
)
def test_what_does_not_fit_is_one_line(config: Path, override: str, said: str) -> None:
    root = config.parents[1]
    shutil.copy(PROJECT / "jobs" / "methods" / "gandiffface" / "grammars" / "slots.yaml", root / "slots.yaml")
    (root / "shows.yaml").write_text("slots: {pose: {left: {phrase: left, shows: {jaw: [1, 2]}}}}\n")
    done = planned(config, override)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert said in line


def test_originals_of_the_embedded_base_are_refused(config: Path) -> None:
    text = "generate={originals: true}"
    done = planned(config, "personalize={base: base.safetensors}", text)
    assert "generate.originals: got true; allowed: false" in done.stderr


def test_the_defaults_of_a_text_base_hold_where_the_config_sets_nothing(config: Path) -> None:
    plain = load_run(config).section(Personalize).tuning
    assert (plain.steps, plain.batch, plain.lora.layers, plain.lora.rank) == (800, 1, "attention", 4)
    own = load_run(config, overrides=["personalize.tuning={steps: 200, lora: {rank: 16}}"]).section(Personalize)
    assert (own.tuning.steps, own.tuning.prior_weight, own.tuning.lora.rank, own.tuning.lora.layers) == (
        200,
        1.0,
        16,
        "attention",
    )
    assert own.fingerprint()["tuning"]["steps"] == 200
    embedded = load_run(config, overrides=["personalize={base: base.safetensors}"]).section(Personalize)
    assert (embedded.tuning.steps, embedded.tuning.lora.layers) == (150, "all")
    assert "text_base" not in embedded.fingerprint()  # so that older finished stages stay valid


def test_the_fingerprint_holds_what_is_loaded_from_the_folder(config: Path) -> None:
    run = load_run(config)
    before = personalize_files(run)
    assert before == {"personalize.text_base": base_hash(run)}
    (config.parents[1] / "sd" / "README.md").write_text("not loaded")
    assert personalize_files(run) == before
    scheduler = config.parents[1] / "sd" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.013"))
    assert personalize_files(run) != before


def test_the_lineage_has_what_the_folder_was_trained_on_if_the_config_says_it(config: Path) -> None:
    before = load_run(config)
    assert unknown_origin("personalize.text_base") in lineage(before)
    text = "personalize.text_base_source={license: CreativeML Open RAIL-M, origin: a mirror, trained_on: LAION-5B}"
    run = load_run(config, overrides=[text])
    assert DataSet(name="LAION-5B") in lineage(run)
    assert unknown_origin("personalize.text_base") not in lineage(run)
    said, unsaid = (one.section(Personalize).fingerprint() for one in (run, before))
    assert said == unsaid  # nobody is learned again because of it


def test_prompts_that_are_too_long_are_refused_before_identities_are_learned(config: Path) -> None:
    long = {"phrase": "a " * 40}
    grammar = {"slots": {"pose": {"left": long, "right": {"phrase": "b"}}, "view": {"up": long}}}
    (config.parents[1] / "long.yaml").write_text(json.dumps(grammar))
    (config.parents[1] / "short.yaml").write_text("slots: {pose: {left: {phrase: left}}}\n")
    run = load_run(config, overrides=["generate.prompts=long.yaml"])
    with pytest.raises(ModelError, match="allowed: 77, with start and end; shorten it"):
        open_base(run, device=torch.device("cpu"))
    assert open_base(load_run(config, overrides=["generate.prompts=short.yaml"]), device=torch.device("cpu"))


@pytest.fixture
def ten_thousand(folder: Path, tmp_path: Path) -> Path:
    """configs/gandiffface_10k.yaml in a project with small files in the places of the user's."""
    (tmp_path / "configs" / "cluster").mkdir(parents=True)
    for name in ("gandiffface_10k.yaml", "cluster/a100.yaml"):
        shutil.copy(PROJECT / "configs" / name, tmp_path / "configs" / name)
    set_up(tmp_path / "drawn")
    shutil.copytree(tmp_path / "drawn" / "faces", tmp_path / "data" / "casia-webface-112")
    shutil.copytree(folder, tmp_path / "models" / "stable-diffusion-v1-5")
    (tmp_path / "weights").mkdir()
    shutil.copy(PROJECT / "nets" / "embedder.safetensors", tmp_path / "weights" / "embedder.safetensors")
    write_head(tmp_path / "weights" / "stylegan3-ffhq.safetensors")
    return tmp_path / "configs" / "gandiffface_10k.yaml"


SMALL = ("shard.held_out_identities=2", "shard.max_bad_fraction=0.1")


def test_the_paper_scale_is_planned_for_a_cluster_of_a100(ten_thousand: Path) -> None:
    done = planned(ten_thousand, *SMALL, cluster=ten_thousand.parent / "cluster" / "a100.yaml")
    assert "10,000 identities x 800 steps x 2 samples x 2 passes" in done.stdout, done.stderr
    assert "pictures: 10,000 x 50 x 1.1 x (25 steps x 2 x" in done.stdout
    shutil.rmtree(ten_thousand.parents[1] / "models")
    done = planned(ten_thousand, *SMALL)
    (line,) = done.stderr.strip().splitlines()
    assert "models/stable-diffusion-v1-5: no such folder" in line


def test_the_paper_scale_takes_at_most_240_a100_hours_with_stable_diffusion_1_5(ten_thousand: Path) -> None:
    run: Run = load_run(ten_thousand, overrides=SMALL)
    config, personalize = run.section(GeneratePictures), run.section(Personalize)
    assert personalize.text_base is not None
    hours = hours_of(
        base_cost(UNetPart.model_validate(SD15), VaePart.model_validate(VAE), image_size=512),
        personalize.text_base,
        personalize.tuning,
        people=identities_of(run),
        portraits=run.section(MakePortraits).count,
        pictures=config.images_per_identity,
        steps=config.steps,
        guided=config.guidance > 1,
        remade=0.1,
    )
    assert hours.total == pytest.approx(227.3, abs=0.1)
