"""The errors whose one-line message is meant for the user; anything else is a defect and shows its traceback."""

from __future__ import annotations

from cemiface.errors import ModelError
from jobs.yaml_file import ConfigError
from shards.errors import DataError
from slurm.errors import RunError

USER_ERRORS: tuple[type[Exception], ...] = (ConfigError, DataError, ModelError, RunError)
