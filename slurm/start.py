"""The first program of a Slurm task: block signals until our handlers are installed, then run the snapshot's code.

Started as `python -S -E .../slurm/start.py ARGUMENTS`, it becomes `python ARGUMENTS`. A signal that arrives while
python is still importing packages from a slow file system would kill the task. Blocked, it is delivered as soon as
`StopFlag.listen` unblocks it. This file imports only what is available at once.
"""

from __future__ import annotations

import os
import signal
import sys

BLOCKED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    code = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ["PYTHONPATH"] = code
    os.environ["CEMIFACE_CODE"] = os.path.basename(code)
    os.environ["PYTHONSAFEPATH"] = "1"  # do not import from the working folder: its code may have changed
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 (no shell involved)
