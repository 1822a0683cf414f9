"""The errors whose one-line message is meant for the user; anything else is a defect and shows its traceback."""

from __future__ import annotations

from cemiface.errors import ModelError
from shards.errors import DataError
from slurm.errors import RunError


class ConfigError(ValueError):
    """A config file or override that the user can correct: which field, what was got, what is allowed, what to do."""


USER_ERRORS: tuple[type[Exception], ...] = (ConfigError, DataError, ModelError, RunError)
