"""The first thing a Slurm task runs: hold signals back until our handlers are there, use the code snapshot, go on.

Started as `python -S -E .../slurm/start.py ARGUMENTS`, it becomes `python ARGUMENTS`. A signal that comes while the
interpreter is still loading packages from a busy file system would kill the task by default: blocked, it waits until
`StopFlag.listen` lets it in. This file imports nothing but what is there at once.
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT))
    code = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ["PYTHONPATH"] = code
    os.environ["CEMIFACE_CODE"] = os.path.basename(code)
    os.environ["PYTHONSAFEPATH"] = "1"  # the folder a job was submitted from holds the code of today
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 (no shell wanted)
