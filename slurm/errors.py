"""Errors of this package."""

from __future__ import annotations


class RunError(ValueError):
    """An error in a run, its files or its cluster that the user can fix; the message is one line."""


class DiskError(RunError):
    """A file could not be written: no space, quota exceeded, no permission."""
