"""The module path of every process: nothing is imported because it lies in the current folder.

A file numpy.py in the folder that the user happens to be in would otherwise be run. As a program, this file starts a
local rank: `python -P .../safe_start.py -u -m MODULE ARGUMENTS` becomes `python -m MODULE ARGUMENTS`.
It imports only what is built into python, as the path is not safe before it has run.
"""

import os
import runpy
import site
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder

PACKAGES = ("cemiface", "jobs", "shards", "slurm")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class OwnPackages:
    """Finds our packages beside this file and nothing else there: a checkout may be the current folder."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: object | None = None) -> ModuleSpec | None:
        """The module, if it is one of our packages."""
        return PathFinder.find_spec(name, [ROOT]) if path is None and name in PACKAGES else None


def make_safe() -> None:
    """Take the current folder off the module path, and find our packages nevertheless."""
    sys.path[:] = without_current(sys.path)
    if OwnPackages not in sys.meta_path:
        sys.meta_path.insert(0, OwnPackages)


def without_current(path: Sequence[str]) -> list[str]:
    """The entries that are not the current folder; an empty one stands for it."""
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it was removed, so nothing can lie in it
        return list(path)
    if here in map(os.path.realpath, (*site.getsitepackages(), os.path.dirname(os.__file__))):
        return [entry for entry in path if entry]  # the user is where packages are installed
    return [entry for entry in path if os.path.realpath(entry) != here]


@contextmanager
def safe_environment() -> Iterator[None]:
    """Within the block, python programs that this process starts do not import from the current folder."""
    before = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(without_current((before["PYTHONPATH"] or "").split(os.pathsep)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


if __name__ == "__main__":
    make_safe()
    del sys.argv[:3]  # this file, `-u` and `-m`; what is left is as if python had been given it
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
