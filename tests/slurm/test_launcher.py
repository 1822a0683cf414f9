"""Which process holds the lock of a run: one of this machine, one that cannot be seen from here, or none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from slurm.ranks.launcher import running_launcher

HOLDS = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.pwrite(handle, sys.argv[2].encode() if len(sys.argv) > 2 else str(os.getpid()).encode(), 0)
print("held", flush=True)
sys.stdin.read()
"""


def _holder(lock: Path, *content: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS, str(lock), *content]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_launcher_is_known_by_its_lock_and_gone_with_it(tmp_path: Path) -> None:
    lock = tmp_path / ".launch.lock"
    assert running_launcher(lock) is None
    holder = _holder(lock)
    found = running_launcher(lock)
    assert found is not None
    assert found.pid == holder.pid
    holder.kill()
    holder.communicate()
    assert lock.read_text() == str(holder.pid)
    assert running_launcher(lock) is None


def test_the_pid_of_another_machine_is_not_taken_for_one_of_this(tmp_path: Path) -> None:
    """The lock file names a process that runs here but has nothing to do with the file."""
    lock = tmp_path / ".launch.lock"
    unrelated = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    for content in (str(unrelated.pid), "999999999", "x"):
        holder = _holder(lock, content)
        found = running_launcher(lock)
        assert found is not None
        assert found.pid is None
        holder.communicate()
        lock.unlink()
    unrelated.communicate()
