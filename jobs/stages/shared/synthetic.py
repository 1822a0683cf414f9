"""The check before publishing: only images whose record marks them as synthetic pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shards.tars.records import is_synthetic
from slurm.errors import RunError


def require_synthetic(tar: str, key: str, record: Mapping[str, Any]) -> None:
    """Let only records of synthetic images pass.

    Raises:
        RunError: the record is not of a synthetic image.
    """
    if not is_synthetic(record):
        raise RunError(f"{tar}: the record of {key} is not of a synthetic image; remove {tar} and generate it again")
