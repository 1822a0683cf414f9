"""The chain of the method, from drawn faces to a published folder, at the smallest size of attribute nets."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.tars.records import is_synthetic, private_field
from shards.tars.shard_set import ShardSet

from .small_chain import CONFIG, PROMPTS, draw_faces

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[4]


def run_all(root: Path, *, ranks: int) -> Path:
    """The run folder of the finished chain."""
    config, cluster = root / "configs" / "small.yaml", root / "configs" / "site.yaml"
    if not config.exists():
        draw_faces(root / "faces")
        config.parent.mkdir()
        config.write_text(CONFIG)
        (root / "prompts.yaml").write_text(PROMPTS)
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
    for name in ("identities", "portraits", "prompts", "score_tables"):
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
