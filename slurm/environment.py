"""What a job inherits of the environment it was submitted from: an allow-list, so that tokens stay at home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# The submitter's shell otherwise goes to the scheduler whole, and into every job: secrets, and stray RANK,
# CUDA_VISIBLE_DEVICES or SLURM_* of an interactive job, which would be wrong there.
NAMES = {
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TMPDIR", "SLURM_CONF"),
    *("LD_LIBRARY_PATH", "CUDA_HOME", "SSL_CERT_FILE"),
}

PREFIXES = ("LC_",)


def allowed(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in NAMES or name.startswith(PREFIXES)}


@contextmanager
def only_allowed() -> Iterator[None]:
    """Within the block this process, and so the commands it starts, see the allow-listed variables only."""
    whole = dict(os.environ)
    os.environ.clear()
    os.environ.update(allowed(whole))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(whole)
