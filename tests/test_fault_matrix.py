"""Every fault we promise to survive has a test with its number in its name: `pytest -k F18 -m ""` shows how."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

FAULTS = {
    1: "killed while a tar is written",
    2: "killed between a file and its marker",
    3: "killed while a marker is written",
    4: "an output is deleted",
    5: "a bit flips in an output",
    6: "the config changed since",
    7: "another number of ranks than last time",
    8: "two processes run the same rank",
    9: "an attempt that was given up still runs",
    10: "a second launch while the first is at work or queued",
    11: "SIGTERM and nothing else",
    12: "several signals one after the other",
    13: "a signal in any phase",
    14: "a signal to one rank of many",
    15: "a signal while a checkpoint is saved",
    16: "a signal to a worker of the data loader",
    17: "killed in the middle of a save",
    18: "a job that dies again and again",
    19: "a node or everything gone without a signal",
    20: "requeue is forbidden",
    21: "a job of less than ten minutes is preempted",
    22: "a stage that others wait for fails",
    23: "more ranks than an array may have",
    24: "an array of one rank",
    25: "sbatch fails, chatters, or its answer is lost",
    26: "no sacct, a forgetful squeue",
    27: "the disk is full",
    28: "a quota that strikes at fsync",
    29: "a limit on the number of files",
    30: "a network file system that shows things late",
    31: "a file system without hard links",
    32: "clocks that differ",
    33: "a damaged checkpoint",
    34: "a checkpoint that claims to be another",
    35: "a training goes on with another number of ranks",
    36: "ranks see different newest checkpoints",
    37: "a loss that is no number",
    38: "out of memory",
    39: "one rank is waited for in vain",
    40: "the rendezvous port is taken",
    41: "killed while HDF5 is written",
    42: "code edited while jobs wait",
    43: "an open umask, a run folder that is a symlink or open to others",
    44: "the log folder is removed",
    45: "remains of a dead attempt",
    46: "tens of thousands of ranks to look at",
    47: "files of another user",
    48: "killed while the set is published",
}


@cache
def _tested() -> dict[int, list[str]]:
    """Names of the test functions by the faults they name."""
    found: dict[int, list[str]] = {}
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for number in re.findall(r"_F(\d\d)(?=_)", node.name):
                    found.setdefault(int(number), []).append(node.name)
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"F{fault:02d}")
def test_every_fault_has_a_test_that_names_it(fault: int) -> None:
    assert _tested().get(fault), FAULTS[fault]


def test_no_test_names_a_fault_that_is_not_in_the_list() -> None:
    assert _tested().keys() - FAULTS == set()
