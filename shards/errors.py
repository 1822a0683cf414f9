"""The error class of the data plane."""

from __future__ import annotations


class DataError(ValueError):
    """A file, folder or argument is not valid.

    The message is one line for the user: the file or field, what was given, what is allowed, what to do.
    """
