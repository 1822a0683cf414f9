"""The errors whose one-line message is for the user; any other error is a defect and shows its traceback."""

from __future__ import annotations

from cemiface.errors import ModelError
from shards.errors import DataError
from slurm.errors import RunError


class ConfigError(ValueError):
    """A wrong config file or override. The message has the field, what was got, what is allowed, and what to do."""


USER_ERRORS: tuple[type[Exception], ...] = (ConfigError, DataError, ModelError, RunError)
