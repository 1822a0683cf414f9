"""The one error of the data plane."""

from __future__ import annotations


class DataError(ValueError):
    """A file or folder is not what it should be.

    The message is one line for the user: which file, what was got, what is allowed, what to do.
    """
