"""Every fault we promise to survive, and every bad input we promise to tell, has a test with its number in its name.

`pytest -k F18 -m ""` or `pytest -k B34 -m ""` shows how.
"""

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


INPUTS = {
    1: "a truncated JPEG",
    2: "a JPEG cut by two bytes",
    3: "a JPEG damaged inside",
    4: "zero bytes",
    5: "text named .jpg",
    6: "a PNG with a wrong checksum, or cut",
    7: "gray",
    8: "CMYK",
    9: "16-bit gray",
    10: "transparent pixels",
    11: "a palette, one bit",
    12: "an animation",
    13: "TIFF, LAB, HDR",
    14: "an EXIF orientation, or a damaged one",
    15: "a decompression bomb",
    16: "a tiny or a very long image",
    17: "another size than promised",
    18: "several faces or none",
    19: "one color",
    20: "duplicates",
    21: "names that differ in case only",
    22: "names with dots",
    23: "names in any script, with newlines, very long",
    24: "names that are no UTF-8",
    25: "hidden files and litter",
    26: "symbolic links",
    27: "fifos, sockets, devices",
    28: "unreadable files and folders",
    29: "files that change after they were listed",
    30: "identities of no image or one",
    31: "a set smaller than a batch, or empty",
    32: "labels that are no classes",
    33: "a tar cut inside a member",
    34: "a tar cut between members",
    35: "an empty tar",
    36: "a compressed tar",
    37: "unsafe members",
    38: "a member of gigabytes, millions of members",
    39: "halves of samples, and samples twice",
    40: "a pickle in a tar",
    41: "shards that are missing, renamed or of another set",
    42: "a record that is not strict JSON",
    43: "embeddings that are no directions",
    44: "weights that are missing or of another net",
    45: "weights that need code",
    46: "a benchmark that is missing, odd or malicious",
    47: "YAML that says something else than people mean",
    48: "impossible values in a config",
    49: "strange paths",
    50: "words that could leave their line in a job script",
    51: "impossible resources",
    52: "overrides that cannot be meant",
    53: "a stray environment",
}  # and a checkpoint of another number of ranks, which is fault 35


@cache
def _tested(kind: str) -> dict[int, list[str]]:
    """Names of the test functions by the faults (F) or inputs (B) they name."""
    found: dict[int, list[str]] = {}
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for number in re.findall(rf"_{kind}(\d\d)(?=_)", node.name):
                    found.setdefault(int(number), []).append(node.name)
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"F{fault:02d}")
def test_every_fault_has_a_test_that_names_it(fault: int) -> None:
    assert _tested("F").get(fault), FAULTS[fault]


@pytest.mark.parametrize("row", INPUTS, ids=lambda row: f"B{row:02d}")
def test_every_bad_input_has_a_test_that_names_it(row: int) -> None:
    assert _tested("B").get(row), INPUTS[row]


def test_no_test_names_what_is_not_in_the_lists() -> None:
    assert _tested("F").keys() - FAULTS == _tested("B").keys() - INPUTS == set()
