"""Errors of this package."""

from __future__ import annotations


class RunError(ValueError):
    """An error in a run, its files or its cluster that the user can fix; the message is one line."""


class DiskError(RunError):
    """A file could not be read or written: no space, quota exceeded, no permission, an error of the disk.

    Attributes:
        number: the errno, 0 if unknown.
    """

    def __init__(self, message: str, *, number: int = 0) -> None:
        super().__init__(message)
        self.number = number
