"""Environment variables that a job inherits from the shell it was submitted from: an allow-list without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# By default sbatch passes the whole environment to every job: secrets, and variables of an interactive job (RANK,
# CUDA_VISIBLE_DEVICES, SLURM_*) that would be wrong there.
NAMES = {
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TMPDIR", "SLURM_CONF"),
    *("LD_LIBRARY_PATH", "CUDA_HOME", "SSL_CERT_FILE"),
    # Lmod and Environment Modules: where they are and where modules are. `module` is a shell function at most sites.
    *("MODULEPATH", "MODULEPATH_ROOT", "MODULESHOME", "MODULERCFILE", "MODULE_VERSION", "BASH_ENV"),
}

PREFIXES = ("LC_", "LMOD_", "MODULES_")

# Which modules are loaded in the user's shell: a job that inherits it would not load them again.
LOADED = ("MODULES_LM", "LMOD_FAMILY_")

FUNCTIONS = ("module", "ml", "_module_raw", "_moduleraw", "switchml", "clearMT", "clearLmod", "scl")

FUNCTION = re.compile(rf"BASH_FUNC_({'|'.join(FUNCTIONS)})(%%|\(\))")  # as bash exports them; () by older versions

# Variables with which users set defaults of sbatch, and the fields of the cluster file in their place.
OF_SLURM = ("SBATCH_", "SLURM_", "SRUN_", "SALLOC_")

FIELDS = {
    "PARTITION": "partition",
    "ACCOUNT": "account",
    "QOS": "qos",
    "CONSTRAINT": "constraint",
    "EXCLUDE": "exclude",
    "TIMELIMIT": "minutes",
    "GPUS": "gpus",
    "GPUS_PER_NODE": "gpus",
    "GRES": "gpus",
    "MEM_PER_NODE": "memory_gb",
    "CPUS_PER_TASK": "cpus",
    "NNODES": "train.nodes",
}


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the allow-list."""
    return {name: value for name, value in environment.items() if _is_allowed(name)}


def _is_allowed(name: str) -> bool:
    if name.startswith(LOADED) or name.endswith(("_modshare", "_modquar")):
        return False
    return name in NAMES or name.startswith(PREFIXES) or FUNCTION.fullmatch(name) is not None


def unused(environment: Mapping[str, str]) -> list[str]:
    """Slurm's variables in the user's shell, which no job gets: a line for each, or one for those of an allocation."""
    names = sorted(name for name in environment if name.startswith(OF_SLURM) and not _is_allowed(name))
    job = environment.get("SLURM_JOB_ID")
    if job is not None:
        names = [name for name in names if name.startswith("SBATCH_")]
    lines = []
    for name in names:
        field = FIELDS.get(name.partition("_")[2])
        remedy = f"set `{field}` in the cluster file" if field else "the cluster file has what jobs get"
        lines.append(f"{name} is exported in your shell, but not used; {remedy}")
    if job is not None:
        lines.append(f"your shell is in job {job} of Slurm, whose SLURM_* variables are not used")
    return lines


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
