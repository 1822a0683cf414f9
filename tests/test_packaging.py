"""What is installed is all that is needed: a wheel in an environment without the checkout plans and runs the demo."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from setuptools import find_packages

from jobs.command.demo import FILES, demo_config, demo_files, set_up_demo
from jobs.frame.methods import BUILT_IN
from slurm.provenance import provenance
from slurm.submission.snapshot import code_digest, code_files

ROOT = Path(__file__).parent.parent
PACKAGES = ("cemiface", "jobs", "shards", "slurm")
SECONDS = 900.0  # for one command; a fraction of it on a quiet machine
# The demo in small: every stage, and nothing that takes long.
SMALL = (
    "train-diffusion.images=32",
    "train-diffusion.checkpoint_images=16",
    "train-diffusion.log_images=16",
    "identities.candidates=20",
    "identities.count=8",
    "generate.images_per_identity=4",
    "generate.steps=2",
    "train-recognition.epochs=2",
    "train-recognition.drop_after_epochs=[1]",
    "audit.max_dropped_fraction=1.0",
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows, so that building leaves nothing in the checkout."""
    target = tmp_path_factory.mktemp("sources")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in (*PACKAGES, "configs", "nets"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wheel(sources, tmp_path_factory.mktemp("wheel"))


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment that holds the wheel, and an empty folder to work in."""

    environment: Path
    folder: Path

    @property
    def packages(self) -> Path:
        (found,) = self.environment.glob("lib/python*/site-packages")
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return _run(str(self.environment / "bin" / words[0]), *words[1:], cwd=self.folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The wheel in an environment of its own, which sees the dependencies that this one has."""
    root = tmp_path_factory.mktemp("installed")
    made = _run(sys.executable, "-m", "venv", "--without-pip", str(root / "environment"), cwd=root)
    assert made.returncode == 0, made.stderr
    found = Installed(environment=root / "environment", folder=root / "empty")
    found.folder.mkdir()
    # Only the folder itself: the `.pth` files in it, of which one leads to the checkout, are not followed from here.
    (found.packages / "dependencies.pth").write_text(f"{_dependencies()}\n")
    pip = ("-m", "pip", "--python", str(found.environment / "bin" / "python"))
    done = _run(sys.executable, *pip, "install", "--no-deps", "--no-index", str(wheel), cwd=root)
    assert done.returncode == 0, done.stderr
    yield found
    shutil.rmtree(root)


def _dependencies() -> Path:
    return Path(pytest.__file__).parent.parent


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "250"}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=environment, timeout=SECONDS
    )


def _wheel(sources: Path, target: Path) -> Path:
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(target))
    done = _run(sys.executable, "-m", "pip", "wheel", *options, str(sources), cwd=target)
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


def _members(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel but for those about it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def test_every_folder_with_code_is_a_package() -> None:
    found = set(find_packages(str(ROOT), include=[name + more for name in PACKAGES for more in ("", ".*")]))
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == found


def test_the_files_of_the_demo_are_links_into_the_checkout() -> None:
    """Git holds each of them once."""
    files = [path for path in FILES.rglob("*") if not path.is_dir()]
    assert len(files) >= 4
    for path in files:
        assert path.is_symlink()
        assert path.resolve() == ROOT / path.relative_to(FILES)


def test_a_job_gets_every_file_of_the_packages_but_those_of_the_demo() -> None:
    """Jobs run a copy of the code: what it lacks is missed on a cluster alone."""
    files = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    elsewhere = {"__pycache__", "demo_files"}
    needed = {path for path in files if path.suffix not in {"", ".md"} and not elsewhere & {*path.parts}}
    assert {path.suffix for path in needed} >= {".py", ".j2", ".yaml", ".onnx", ".tflite"}
    assert needed <= set(code_files(ROOT))


@pytest.mark.parametrize("method", BUILT_IN)
def test_the_demo_of_a_method_puts_there_what_its_config_names_and_a_plan_of_it_succeeds(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = set_up_demo(method, overrides=["shard.faces=elsewhere"])
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(demo_files(method))
    nets = {path for path in files if path.suffix == ".safetensors"}
    assert nets == {Path(name) for name in re.findall(r"nets/[a-z_/]+\.safetensors", config.read_text())}
    assert len(nets) >= 2
    faces = f"shard.faces={ROOT / 'data' / 'orl'}"
    planned = _run(sys.executable, "-m", "jobs", "plan", str(config), faces, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr


@pytest.mark.long
def test_a_wheel_holds_all_code_templates_and_what_the_demo_needs(wheel: Path) -> None:
    members = _members(wheel)
    assert {str(path) for path in code_files(ROOT)} <= members.keys()
    for path in (path for path in FILES.rglob("*") if path.is_file()):
        assert members[str(path.relative_to(ROOT))] == path.read_bytes()


@pytest.mark.long
def test_a_source_distribution_gives_the_same_wheel(sources: Path, wheel: Path, tmp_path: Path) -> None:
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    done = _run(sys.executable, "-c", code, str(tmp_path), cwd=sources)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert _members(_wheel(unpacked, tmp_path)) == _members(wheel)


@pytest.mark.long
def test_an_installed_command_runs_outside_the_checkout(installed: Installed) -> None:
    where = installed.run("python", "-c", "import jobs, slurm; print(jobs.__file__, slurm.__file__)")
    assert all(Path(path).is_relative_to(installed.packages) for path in where.stdout.split())
    shown = installed.run("cemiface", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "cemiface demo" in shown.stdout
    refused = installed.run("cemiface", "demo", "--method", "nothing")
    assert refused.returncode == 2
    assert "invalid choice: 'nothing'" in refused.stderr
    assert list(installed.folder.iterdir()) == []


@pytest.mark.long
def test_installed_code_is_snapshot_like_a_checkouts_and_belongs_to_no_commit(installed: Installed) -> None:
    assert code_digest(installed.packages) == code_digest(ROOT)
    assert provenance(installed.packages)["git"] == {"commit": "", "dirty": False}


@pytest.mark.long
def test_the_demo_runs_from_an_empty_folder_and_a_rerun_finds_all_done(installed: Installed) -> None:
    shutil.copytree(ROOT / "data" / "orl", installed.folder / "data" / "orl")
    done = installed.run("cemiface", "demo", *SMALL)
    assert done.returncode == 0, done.stderr[-4000:]
    for path in demo_files("cemiface"):
        assert (installed.folder / path).read_bytes() == (FILES / path).read_bytes()
    assert not (installed.folder / demo_config("gandiffface")).exists()
    assert (installed.folder / "runs" / "demo" / "report" / "index.html").is_file()
    again = installed.run("cemiface", "demo", *SMALL)
    assert again.returncode == 0, again.stderr[-4000:]
    assert again.stderr.count(": already done") == done.stderr.count(": finished in ") > 8
    assert "written" not in again.stderr
    planned = installed.run("cemiface", "plan", "configs/demo.yaml", *SMALL)
    assert planned.returncode == 0, planned.stderr
