"""Environment variables that a job inherits from the shell it was submitted from: an allow-list without secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# By default sbatch passes the whole environment to every job: secrets, and variables of an interactive job (RANK,
# CUDA_VISIBLE_DEVICES, SLURM_*) that would be wrong there.
NAMES = {
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TMPDIR", "SLURM_CONF"),
    *("LD_LIBRARY_PATH", "CUDA_HOME", "SSL_CERT_FILE"),
}

PREFIXES = ("LC_",)


def allowed(environment: dict[str, str]) -> dict[str, str]:
    """The variables of the allow-list."""
    return {name: value for name, value in environment.items() if name in NAMES or name.startswith(PREFIXES)}


@contextmanager
def only_allowed() -> Iterator[None]:
    """Within the block, this process and the commands it starts see only the allowed variables."""
    whole = dict(os.environ)
    os.environ.clear()
    os.environ.update(allowed(whole))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(whole)
