"""The error that this package raises for mistakes of its users."""

from __future__ import annotations


class ModelError(ValueError):
    """Weights, a setting or an input that cannot work, in one line: what was given, what is allowed, what to do."""
