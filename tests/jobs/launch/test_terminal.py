"""A launch whose terminal is closed, as by the end of an ssh session: it saves and ends, or goes on with `nohup`."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ..commands import PROJECT, SECONDS, Project, wait_until

STAGE, LONGER = "train-diffusion", "train-diffusion.images=100000"
TWO_RANKS = "array: {ranks: 1}\ntrain: {ranks_per_node: 2, cpus: 1}\n"


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Iterator[Project]:
    """A copy of the tiny run; no process of it stays, however a test ends."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    yield project
    for process in project.processes():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


class Terminal:
    """A terminal with one launch in its foreground."""

    def __init__(self, arguments: list[str], *, nohup: bool) -> None:
        self._ours, theirs = pty.openpty()

        def prepare() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if nohup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self.launcher = subprocess.Popen(
            arguments,
            cwd=PROJECT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=prepare,
        )
        os.close(theirs)
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):
            while not self._closing.is_set():
                if select.select([self._ours], [], [], 0.05)[0]:
                    os.read(self._ours, 65536)

    def close(self) -> None:
        """As when the connection breaks. The terminal lasts while somebody reads from it."""
        self._closing.set()
        self._reader.join()
        os.close(self._ours)


def _at_work(project: Project, images: int) -> None:
    wait_until(lambda: project.trained(STAGE) >= images, what=f"{images} images")


@pytest.mark.parametrize("cluster", [None, TWO_RANKS], ids=["one rank", "two ranks"])
def test_a_training_whose_terminal_is_closed_saves_ends_and_says_so(project: Project, cluster: str | None) -> None:
    project.forget(STAGE)
    terminal = Terminal(project.arguments(STAGE, LONGER, cluster=cluster), nohup=False)
    _at_work(project, 16)
    terminal.close()
    assert terminal.launcher.wait(timeout=SECONDS) == 130
    wait_until(lambda: project.processes() == [], what="no process left")
    heartbeats = project.heartbeats(STAGE)
    assert [(found["state"], found["exit"]) for found in heartbeats] == [("stopped", 75)] * len(heartbeats)
    assert "SIGHUP: the terminal was closed" in [found["reason"] for found in heartbeats]
    assert [path.parent.name for path in (project.runs / STAGE).glob("checkpoints/*/COMPLETE")]
    shown = project.run("status", LONGER).stdout
    assert "the terminal was closed" in shown
    assert "memory" not in shown


def test_under_nohup_the_training_goes_on_to_its_end_without_its_terminal(project: Project) -> None:
    project.forget(STAGE)
    terminal = Terminal(project.arguments(STAGE, "train-diffusion.images=256", cluster=TWO_RANKS), nohup=True)
    _at_work(project, 16)
    terminal.close()
    assert terminal.launcher.wait(timeout=SECONDS) == 0
    heartbeats = project.heartbeats(STAGE)
    assert [(found["state"], found["attempts"]) for found in heartbeats] == [("done", {})] * 2
    assert project.summary(STAGE)["images_out"] == 256
    assert project.processes() == []


def test_ranks_of_an_array_save_as_well(project: Project) -> None:
    project.forget("generate")
    terminal = Terminal(project.arguments("generate", "generate.images_per_identity=4000"), nohup=False)
    wait_until(lambda: any(found["images"] for found in project.heartbeats("generate")), what="some images")
    terminal.close()
    assert terminal.launcher.wait(timeout=SECONDS) == 130
    wait_until(lambda: project.processes() == [], what="no process left")
    (heartbeat,) = project.heartbeats("generate")
    assert (heartbeat["state"], heartbeat["reason"]) == ("stopped", "SIGHUP: the terminal was closed")
