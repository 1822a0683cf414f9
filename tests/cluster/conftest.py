"""One real Slurm for all cluster tests, and a project that submits to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.commands import ClusterProject
from tests.cluster.virtual_slurm import VirtualSlurm
from tests.jobs.conftest import TinyRun, set_up, tiny_run  # noqa: F401 (a fixture)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def slurm() -> Iterator[VirtualSlurm]:
    """A cluster of four nodes; commands that tests start find it. Without Slurm this fails, it never skips."""
    with VirtualSlurm() as cluster, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name not in cluster.environment]:
            patch.delenv(name)
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture
def fresh(slurm: VirtualSlurm, tmp_path: Path) -> Iterator[ClusterProject]:
    """The tiny chain, of which nothing has run yet."""
    set_up(tmp_path)
    yield from _cleared(ClusterProject(root=tmp_path, slurm=slurm))


@pytest.fixture
def project(tiny_run: TinyRun, slurm: VirtualSlurm, tmp_path: Path) -> Iterator[ClusterProject]:  # noqa: F811
    """A copy of the run that the local executor made."""
    copy = ClusterProject.copy_of(tiny_run, tmp_path / "project")
    yield from _cleared(ClusterProject(root=copy.root, slurm=slurm))


def _cleared(project: ClusterProject) -> Iterator[ClusterProject]:
    """Cancel whatever a test leaves in the queue."""
    yield project
    if project.queue():
        ids = project.slurm.call("squeue", "--noheader", "--format=%A").split()
        project.slurm.call("scancel", "--signal=KILL", "--full", *ids, check=False)  # first, as nobody has to save now
        project.slurm.call("scancel", *ids, check=False)
        project.wait(what="the queue of the test before is empty")
