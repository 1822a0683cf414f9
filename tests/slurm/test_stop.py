"""The stop flag, in processes of its own: signals set it, nothing else happens."""
# ruff: noqa: N802

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.ranks.stop import StopFlag, Stopped

SECONDS = 300.0  # for what another process has to do; a moment on a quiet machine

WAITS = """
import sys, time
from slurm.ranks.stop import StopFlag
stop = StopFlag().listen()
if len(sys.argv) > 1:
    stop.follow(int(sys.argv[1]))
print("listening", flush=True)
deadline = time.monotonic() + 300
while not stop.due() and time.monotonic() < deadline:
    time.sleep(0.01)
print(stop.reason, flush=True)
sys.stdin.read()
print("still here,", stop.reason, flush=True)
"""


def _listener(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "listening\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_F11_every_signal_of_a_cluster_sets_the_flag(number: signal.Signals) -> None:
    process = _listener()
    process.send_signal(number)
    output, _ = process.communicate(timeout=SECONDS)
    assert output == f"{number.name}\nstill here, {number.name}\n"
    assert process.returncode == 0


def test_F12_a_second_signal_is_harmless_and_the_first_stays_the_reason() -> None:
    process = _listener()
    process.send_signal(signal.SIGUSR2)
    assert process.stdout
    assert process.stdout.readline() == "SIGUSR2\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=SECONDS)
    assert output == "still here, SIGUSR2\n"


def test_F15_a_signal_in_the_middle_of_a_save_waits_for_its_end(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom slurm.files import publishing\n"
        "from slurm.ranks.stop import StopFlag\n"
        "stop = StopFlag().listen()\n"
        "with publishing(Path(sys.argv[1])) as part:\n"
        "    part.write(b'first '); os.kill(os.getpid(), signal.SIGTERM); part.write(b'second')\n"
        "print(stop.reason)\n"
    )
    path = tmp_path / "state"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "SIGTERM\n"
    assert path.read_bytes() == b"first second"


def test_the_end_of_the_launcher_sets_the_flag() -> None:
    launcher = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = _listener(str(launcher.pid))
    launcher.kill()  # and not waited for: a zombie counts as gone
    output, _ = process.communicate(timeout=SECONDS)
    launcher.wait()
    assert output.startswith("the launcher is gone\n")


def test_a_rank_that_does_not_leave_by_itself_is_ended_some_time_after_its_launcher() -> None:
    """It waits in a call that does not return, as for a rank that was killed as well."""
    waits = "import sys, time\nfrom slurm.ranks.stop import StopFlag\n"
    waits += "StopFlag().listen().follow(int(sys.argv[1]), seconds_to_save=0.1)\nprint('listening', flush=True)\n"
    waits += "while True: time.sleep(1000)\n"
    launcher = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", waits, str(launcher.pid)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "listening\n"
    launcher.kill()
    assert process.wait(timeout=SECONDS) == 75
    launcher.wait()


def test_a_rank_is_asked_to_leave_only_when_a_stop_is_due() -> None:
    stop = StopFlag()
    stop.check()
    assert not stop.due()
    stop.reason = "SIGTERM"
    assert stop.due()
    with pytest.raises(Stopped, match="SIGTERM"):
        stop.check()


def test_F13_ctrl_c_is_held_back_not_lost_and_children_hold_it_until_they_listen() -> None:
    """The parent is interrupted at the end of the block; the child, which starts in it, finds its flag set."""
    parent = """
import os, signal, subprocess, sys
from slurm.ranks.stop import interrupts_held
imports = "from slurm.ranks.stop import StopFlag; "
child_code = imports + "print('ready', flush=True); input(); print(StopFlag().listen().reason)"
try:
    with interrupts_held():
        child = subprocess.Popen([sys.executable, "-c", child_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        os.killpg(os.getpgid(0), signal.SIGINT)
        print("not lost, not yet", flush=True)
    print("lost", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(child.communicate(b"go on")[0].decode(), end="")
"""
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.stdout.splitlines() == ["not lost, not yet", "interrupted", "SIGINT"], done.stderr
