"""The frame of the house: import directions, source rules, sizes, and that the Makefile, setup.py and stages agree."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import setuptools

from jobs import VERSION
from jobs.command.verbs import STAGES
from jobs.frame.config_file.yaml_file import read_yaml
from jobs.frame.experiment import load_run
from jobs.frame.method import load
from jobs.frame.methods import BUILT_IN, find_method
from slurm.cluster import Cluster

ROOT = Path(__file__).parent.parent
PACKAGES = ("jobs", "cemiface", "shards", "slurm")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).glob("**/*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}
MODULES = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree for name, tree in TREES.items()}
LOOPS = {"train", "run_rank", "ddim"}  # training and sampling loops: one function, readable from top to bottom

MAX_FILES = 16  # of a room, beside its `__init__.py`
# What a room may import, beside itself and `cemiface`, `shards` and `slurm`. `command` is above them all.
JOBS = {
    "frame": set(),
    "training": {"frame"},
    "report": {"frame"},
    "stages": {"frame", "training", "report"},
    "methods": {"frame", "training", "report", "stages"},
    "watch": {"frame"},
    "launch": {"frame", "watch"},
    "command": {"frame", "training", "report", "stages", "methods", "watch", "launch"},
}
CEMIFACE = {
    "recognition": set(),
    "diffusion": set(),
    "measures": {"recognition"},
    "semihard": {"diffusion", "recognition", "measures"},
    "gandiff": {"diffusion", "recognition", "measures"},
}


def _imported(tree: ast.AST) -> set[str]:
    """The full names of what a module imports, anywhere in it; for `from a import b` both `a` and `a.b`."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _imports(tree: ast.AST) -> set[str]:
    """The top-level packages a module imports, anywhere in it."""
    return {name.partition(".")[0] for name in _imported(tree)}


def _room(module: str, package: str) -> str | None:
    """The room of a package that a module lies in, None for modules beside the rooms."""
    first, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return room if first == package and (ROOT / package / room / "__init__.py").exists() else None


@pytest.mark.parametrize("package", ["cemiface", "shards", "slurm"])
def test_the_lower_packages_do_not_import_each_other(package: str) -> None:
    others = set(PACKAGES) - {package}
    found = {name: _imports(tree) & others for name, tree in TREES.items() if name.startswith(f"{package}/")}
    assert found
    assert {name: imported for name, imported in found.items() if imported} == {}


@pytest.mark.parametrize(("package", "allowed"), [("jobs", JOBS), ("cemiface", CEMIFACE)])
def test_rooms_import_only_rooms_below_them(package: str, allowed: Mapping[str, set[str]]) -> None:
    for module, tree in MODULES.items():
        room = _room(module, package)
        if room:
            used = {found for name in _imported(tree) if (found := _room(name, package))}
            assert used <= allowed[room] | {room}, module


def test_the_rooms_are_those_of_the_rules() -> None:
    folders = {path.name for path in (ROOT / "jobs").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(JOBS)
    folders = {path.name for path in (ROOT / "cemiface").iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(CEMIFACE)


def test_no_subpackage_has_too_many_files() -> None:
    folders = {path.parent for path in SOURCES}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) - 1 for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MAX_FILES} == {}


def test_there_are_no_import_cycles() -> None:
    """Imports for type checking alone are none at run time and do not count."""
    graph = {name: sorted((_imported(_without_typing(tree)) & set(MODULES)) - {name}) for name, tree in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _without_typing(tree: ast.Module) -> ast.Module:
    """The module without what stands under `if TYPE_CHECKING:`."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(body=body, type_ignores=[])


def test_an_import_inside_a_function_has_its_reason_beside_it() -> None:
    found = []
    for name, tree in TREES.items():
        lines = (ROOT / name).read_text().splitlines()
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    beside = lines[node.lineno - 1], lines[node.lineno - 2], lines[node.lineno - 3]
                    found += [f"{name}:{node.lineno}"] if not any("#" in line for line in beside) else []
    assert found == []


def test_shards_and_slurm_know_no_torch() -> None:
    planes = {name: tree for name, tree in TREES.items() if name.startswith(("shards/", "slurm/"))}
    assert [name for name, tree in planes.items() if "torch" in _imports(tree)] == []


def test_every_stage_writes_its_tars_by_one_means() -> None:
    writers = [name for name, tree in TREES.items() if name.startswith("jobs/") and "TarWriter(" in ast.unparse(tree)]
    assert writers == ["jobs/stages/shared/tars.py"]


def test_shared_stages_name_no_method() -> None:
    """Neither a method, nor a stage of its own, nor a field of what it asks for."""
    own = {name for method in BUILT_IN for name in (method, *find_method(method).own_stages)}
    found = []
    for name, tree in TREES.items():
        if name.startswith(("jobs/stages/", "jobs/report/", "jobs/training/")):
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
            given = {one.value for call in calls for one in call.args if isinstance(one, ast.Constant)}
            found += [f"{name}: {text}" for text in given & own]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_imported_packages_are_ours(package: str) -> None:
    assert Path(str(importlib.import_module(package).__file__)).is_relative_to(ROOT / package)


@pytest.mark.parametrize("command", ["plan", "status", "--help"])
def test_commands_that_only_look_import_no_torch(tmp_path: Path, command: str) -> None:
    face = tmp_path / "faces" / "somebody" / "0.png"
    face.parent.mkdir(parents=True)
    face.touch()
    config = tmp_path / "plan.yaml"
    config.write_text("name: plan\nshard: {faces: faces}\n")
    arguments = [command] if command.startswith("-") else [command, str(config)]
    code = (
        "import sys\nfrom jobs.command.main import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert end.code in (0, 4), end.code\n"
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


def test_no_code_executes_input_or_swallows_errors() -> None:
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


def test_errors_for_users_are_no_asserts() -> None:
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


def test_every_stage_is_a_folder_of_a_plan_and_its_work() -> None:
    for name, stage in STAGES.items():
        assert name == stage.name
        folder = ROOT / Path(*stage.work.split(".")).parent
        assert {path.name for path in folder.glob("*.py")} >= {"plan.py", "work.py"}
        work = importlib.import_module(stage.work)
        assert callable(work.run_rank)
        assert stage.config.__module__ == f"{stage.work.removesuffix('.work')}.plan"


def test_names_of_modules_in_the_method_contract_resolve() -> None:
    for name in BUILT_IN:
        method = find_method(name)
        for path in (method.remaker, method.report_parts, method.training_plots):
            assert load(path) is not None


def _make(*arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_has_a_target_for_every_stage_and_calls_its_command() -> None:
    listed = re.search(r"^STAGES := (.*)$", (ROOT / "Makefile").read_text().replace("\\\n", ""), re.MULTILINE)
    assert listed
    assert sorted(listed[1].split()) == sorted(STAGES)
    recipes = _make(
        "--dry-run",
        "--old-file=setup",
        *STAGES,
        "CONFIG=some.yaml",
        "CLUSTER=site.yaml",
        "SET=seed=2",
    )
    called = [line.split()[1:] for line in recipes.splitlines() if "/cemiface " in line]
    assert called == [[stage, "some.yaml", "--cluster", "site.yaml", "seed=2"] for stage in STAGES]


def test_make_help_names_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    targets = phony[1].replace("$(STAGES)", " ".join(STAGES)).split()
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


def test_setup_installs_every_package_and_its_data() -> None:
    found = set(setuptools.find_packages(str(ROOT), include=[f"{package}*" for package in PACKAGES]))
    assert found == {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in SOURCES}
    assert f'version="{VERSION}"' in (ROOT / "setup.py").read_text()


PAGE = (ROOT / "docs" / "architecture.md").read_text()


def _node(module: str, *, seen_from: str) -> str:
    """The node of the picture for a module: its room, seen from its own package, else its package."""
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    same = seen_from.partition(".")[0] == package
    return f"{package}.{room}" if room and same and (ROOT / package / room / "__init__.py").exists() else package


def test_the_picture_has_every_import_between_rooms_and_no_arrow_without_one() -> None:
    arrows = set(re.findall(r"^ +([a-z.]+) --> ([a-z.]+)$", PAGE, re.MULTILINE))
    imports = {
        (_node(module, seen_from=module), _node(name, seen_from=module))
        for module, tree in MODULES.items()
        if module.startswith(("jobs.", "cemiface."))
        for name in _imported(tree)
        if name.partition(".")[0] in PACKAGES
    }
    between = {(a, b) for a, b in imports if a != b and a not in PACKAGES and not a.startswith(f"{b}.")}
    assert arrows - between == set()
    assert {(a, b) for a, b in between if b not in _reached(a, arrows)} == set()


def _reached(node: str, arrows: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    left = [node]
    while left:
        here = left.pop()
        new = {b for a, b in arrows if a == here} - found
        found |= new
        left += new
    return found


def _stops() -> list[tuple[int, str, str]]:
    """Number, file and name of each stop of the two walks."""
    rows = re.findall(r"^\| (\d+) \| `([\w./]+)`(?: `([\w.$()]+)`)? \|", PAGE, re.MULTILINE)
    return [(int(number), path, name) for number, path, name in rows]


def test_the_walks_name_what_is_there() -> None:
    stops = _stops()
    assert [number for number, _, _ in stops] == [*range(1, 13), *range(1, 13)]
    for _, path, name in stops:
        if path == "Makefile":
            assert f"{name}:" in (ROOT / path).read_text()
        elif name:
            found: object = importlib.import_module(path.removesuffix(".py").replace("/", "."))
            for part in name.split("."):
                found = getattr(found, part)
            assert callable(found)
        else:
            assert (ROOT / path).is_file()


def test_the_path_of_a_command_visits_each_module_once() -> None:
    modules = [path for _, path, _ in _stops()[12:]]
    assert len(set(modules)) == len(modules)


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:jobs|cemiface|shards|slurm)/[\w/]+(?:\.py)?)`", PAGE))
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_most_modules_and_functions_are_short_and_documented() -> None:
    """Half of the modules have at most 110 lines, nine functions of ten at most 25; what is public is documented."""
    modules = sorted(len(path.read_text().splitlines()) for path in SOURCES if path.name != "__init__.py")
    nodes = [node for tree in TREES.values() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for node in functions)
    public = [node for node in (*functions, *_classes(nodes)) if not node.name.startswith("_")]
    assert modules[len(modules) // 2] <= 110
    assert lengths[len(lengths) * 9 // 10] <= 25
    assert sum(ast.get_docstring(node) is not None for node in public) >= 0.9 * len(public)


def _classes(nodes: Iterable[ast.AST]) -> list[ast.ClassDef]:
    return [node for node in nodes if isinstance(node, ast.ClassDef)]
