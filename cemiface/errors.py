"""The one error this package raises at users."""

from __future__ import annotations


class ModelError(ValueError):
    """Weights, a setting or an input that cannot work, told in one line: what was got, what is allowed, what to do."""
