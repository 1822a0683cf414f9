"""Errors of the cluster plane."""

from __future__ import annotations


class RunError(ValueError):
    """Something about a run, its files or its cluster that the user can mend; the message is one line."""


class DiskError(RunError):
    """A file could not be written: no space, no quota, no permission."""
