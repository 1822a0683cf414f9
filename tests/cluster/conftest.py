"""One real Slurm for all cluster tests, and projects that submit to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.virtual_slurm import VirtualSlurm


@pytest.fixture(scope="session")
def slurm() -> Iterator[VirtualSlurm]:
    """A cluster of four nodes; commands that tests start find it. Without Slurm this fails, it never skips."""
    with VirtualSlurm() as cluster, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name not in cluster.environment]:
            patch.delenv(name)
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster
