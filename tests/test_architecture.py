"""The frame of the house: import directions, source rules, sizes, and that the Makefile, setup.py and stages agree."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.frame.experiment import load_run
from jobs.frame.methods import find_method
from jobs.frame.yaml_file import read_yaml
from slurm.cluster import Cluster

ROOT = Path(__file__).parent.parent
PACKAGES = ("jobs", "cemiface", "shards", "slurm")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).glob("**/*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}
LOOPS = {"train", "run_rank", "ddim"}  # training and sampling loops: one function, readable from top to bottom


def _imports(tree: ast.Module) -> set[str]:
    """The top-level packages a module imports, anywhere in it."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", ["cemiface", "shards", "slurm"])
def test_a_plane_imports_no_other_package_of_ours(package: str) -> None:
    others = set(PACKAGES) - {package}
    found = {name: _imports(tree) & others for name, tree in TREES.items() if name.startswith(f"{package}/")}
    assert found
    assert {name: imported for name, imported in found.items() if imported} == {}


def test_shards_and_slurm_know_no_torch() -> None:
    planes = {name: tree for name, tree in TREES.items() if name.startswith(("shards/", "slurm/"))}
    assert [name for name, tree in planes.items() if "torch" in _imports(tree)] == []


def test_every_stage_writes_its_tars_by_one_means() -> None:
    writers = [name for name, tree in TREES.items() if name.startswith("jobs/") and "TarWriter(" in ast.unparse(tree)]
    assert writers == ["jobs/tars.py"]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_imported_packages_are_ours(package: str) -> None:
    assert Path(str(importlib.import_module(package).__file__)).is_relative_to(ROOT / package)


def test_planning_imports_no_torch(tmp_path: Path) -> None:
    face = tmp_path / "faces" / "somebody" / "0.png"
    face.parent.mkdir(parents=True)
    face.touch()
    config = tmp_path / "plan.yaml"
    config.write_text("name: plan\nshard: {faces: faces}\n")
    code = (
        "import sys\nfrom jobs.command.main import main\n"
        f"try: main(['plan', {str(config)!r}])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print(sorted(name for name in ('torch', 'deepspeed', 'matplotlib') if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def _violations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines that could run what was read from disk, hide a failure, or hand a string to a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if given.get("shell") == "True" or called in {"os.system", "os.popen", "subprocess.getoutput"}:
                yield node.lineno, "a shell"
            if called in {"eval", "exec"} or re.match(r"(cloud)?pickle\.|dill\.|shelve\.|marshal\.", called):
                yield node.lineno, called
            if called.startswith("yaml.") and called.endswith("load") and given.get("Loader") != "_Loader":
                yield node.lineno, "yaml without our loader"
            if called == "torch.load" and given.get("weights_only") != "True":
                yield node.lineno, "torch.load without weights_only=True"
            if called in {"np.load", "numpy.load"} and given.get("allow_pickle", "False") != "False":
                yield node.lineno, "np.load with pickles"
            if called.endswith((".extractall", ".unpack_archive")):
                yield node.lineno, called
        if isinstance(node, ast.Attribute) and node.attr == "LOAD_TRUNCATED_IMAGES":
            yield node.lineno, "LOAD_TRUNCATED_IMAGES"


def test_no_source_runs_what_it_reads_or_hides_a_failure() -> None:
    found = [f"{name}:{line}: {what}" for name, tree in TREES.items() for line, what in _violations(tree)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.safe_load(text)",
        "pickle.loads(data)",
        "torch.load(path)",
        "tar.extractall(path)",
        "try: pass\nexcept: pass",
        "ImageFile.LOAD_TRUNCATED_IMAGES = True",
    ],
)
def test_the_rules_see_what_they_forbid(text: str) -> None:
    assert len(list(_violations(ast.parse(text)))) == 1


def test_no_source_is_unfinished() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [path.name for path in SOURCES if pattern.search(path.read_text())] == []


def test_users_are_not_told_by_assert_what_they_did_wrong() -> None:
    """An assert with a message would be one for somebody; ours state invariants and say nothing."""
    asserts = (
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and node.msg is not None
    )
    assert list(asserts) == []


def test_modules_and_functions_are_short() -> None:
    modules = {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 350}
    functions = {
        f"{name}:{node.name}": lines
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := node.end_lineno - node.lineno + 1) > (140 if node.name in LOOPS else 60)  # type: ignore[operator]
    }
    assert modules == {}
    assert functions == {}


def test_every_stage_is_one_module_of_its_own() -> None:
    modules = [stage.run_rank.__module__ for stage in find_method("cemiface").chain.values()]
    assert len(set(modules)) == len(modules) - 2  # train-recognition trains the embedder too; the studies are one
    assert all(name == stage.name for name, stage in find_method("cemiface").chain.items())


def _make(*arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_has_a_target_for_every_stage_and_calls_its_command() -> None:
    listed = re.search(r"^STAGES := (.*)$", (ROOT / "Makefile").read_text().replace("\\\n", ""), re.MULTILINE)
    assert listed
    assert listed[1].split() == list(find_method("cemiface").chain)
    recipes = _make(
        "--dry-run",
        "--old-file=setup",
        *find_method("cemiface").chain,
        "CONFIG=some.yaml",
        "CLUSTER=site.yaml",
        "SET=seed=2",
    )
    called = [line.split()[1:] for line in recipes.splitlines() if "/cemiface " in line]
    assert called == [
        [stage, "some.yaml", "--cluster", "site.yaml", "seed=2"] for stage in find_method("cemiface").chain
    ]


def test_make_help_names_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    targets = phony[1].replace("$(STAGES)", " ".join(find_method("cemiface").chain)).split()
    printed = re.findall(r"[a-z-]+", _make("help"))
    assert [target for target in targets if target not in printed] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_loads(path: Path) -> None:
    run = load_run(path)
    assert run.chain
    assert run.root == ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "cluster").glob("*.yaml")), ids=lambda path: path.name)
def test_every_cluster_file_loads(path: Path) -> None:
    load_run(ROOT / "configs" / "demo.yaml", cluster=path)
    assert Cluster.model_validate(read_yaml(path)).array.world() >= 1


def test_setup_installs_the_packages_that_are_there() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text())
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    assert sorted(ast.literal_eval(given["packages"])) == sorted(PACKAGES)
    assert {package for package in PACKAGES if not (ROOT / package / "__init__.py").is_file()} == set()
    for package, patterns in ast.literal_eval(given["package_data"]).items():
        assert all(list((ROOT / package).glob(pattern)) for pattern in patterns)
