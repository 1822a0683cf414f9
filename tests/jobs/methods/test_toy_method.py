"""A method that brings its own stages and its own `asked` goes through the whole chain to a published folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from shards.tars.records import asked_of, is_synthetic
from shards.tars.shard_set import ShardSet

from ..conftest import CONFIG, GOVERNANCE, RECIPE, set_up

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SET = "toy-set"
SHARED = CONFIG.partition("train-diffusion:")[0].replace("name: tiny", "name: toy\nmethod: toy")
TOY = f"""
identities: {{}}
draw: {{leak: true}}
train-recognition:
{RECIPE}
study-sets:
  seeds: 1
{RECIPE.replace("epochs: 2", "epochs: 1").replace("drop_after_epochs: [1]", "drop_after_epochs: []")}
  compare: {{all: {{sets: [synthetic]}}, red: {{sets: [synthetic], asked: {{color: [red]}}}}}}
evaluate: {{}}
fingerprint: {{}}
audit: {{false_alarms: 0.3, max_dropped_fraction: 1.0}}
refill: {{}}
settle: {{}}
publish:
  set_name: {SET}
  creator: the tests
  license: LicenseRef-test
{GOVERNANCE}report: {{title: Toy}}
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished run; the method is installed as a package of its own would be."""
    root = tmp_path_factory.mktemp("toy")
    installed = root / "installed"
    package = installed / "toy_method-1.0.dist-info"
    package.mkdir(parents=True)
    shutil.copy(HERE / "toy_method.py", installed)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-method\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[cemiface.methods]\ntoy = toy_method:METHOD\n")
    config, cluster = set_up(root)
    config.write_text(SHARED + TOY)
    done = _command(root, ["all", str(config), "--cluster", str(cluster)])
    assert done.returncode == 0, done.stderr[-4000:]
    return root / "runs" / "toy"


def _command(root: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{root / 'installed'}"}
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.long
def test_the_published_folder_verifies(toy: Path) -> None:
    folder = toy / "publish" / SET
    done = subprocess.run([sys.executable, "verify.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    card = (folder / "README.md").read_text()
    assert "Drawn faces." in card
    assert "color = red" in card
    assert "CemiFace" not in card


@pytest.mark.long
def test_the_leaked_image_was_regenerated(toy: Path) -> None:
    audited, settled = (json.loads((toy / stage / "verdict.json").read_text()) for stage in ("audit", "settle"))
    assert "000000-000" in audited["dropped"]
    assert "000000-000" in settled["refilled"]
    images = ShardSet(sorted((toy / "settle").glob("synthetic-*.tar")))
    assert all(is_synthetic(record) for record in images.records())
    assert images.jpeg(0) != ShardSet(sorted((toy / "draw").glob("synthetic-*.tar"))).jpeg(0)


@pytest.mark.long
def test_rates_are_grouped_by_what_was_asked(toy: Path) -> None:
    figures = json.loads((toy / "audit" / "summary.json").read_text())["figures"]
    assert {key: set(found) for key, found in figures["leak_rate_by"].items()} == {
        "color": {"red", "green", "blue"},
        "shape": {"disc", "square"},
    }


@pytest.mark.long
def test_a_study_takes_the_images_that_were_asked_for_a_value(toy: Path) -> None:
    rows = json.loads((toy / "study-sets" / "summary.json").read_text())["figures"]["groups"]
    images = ShardSet(sorted((toy / "draw").glob("synthetic-*.tar")))
    red = sum(asked_of(record)["color"] == "red" for record in images.records())
    assert [row["images"] for row in rows] == [len(images), red]


@pytest.mark.long
def test_the_page_shows_the_set_and_names_no_other_method(toy: Path) -> None:
    page, results = ((toy / "report" / name).read_text() for name in ("index.html", "results.md"))
    assert "color = red" in page
    assert "shape" in page
    assert "CemiFace, NeurIPS" not in results


def test_no_other_file_names_the_toy() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in tracked.stdout.splitlines() if (ROOT / name).exists()]
    named = [path for path in files if "toy_method" in path.read_text()]
    assert {path.parent for path in named} == {HERE}  # other methods of tests take stages of it
