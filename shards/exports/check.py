"""Compares a published or imported folder with its manifest."""

from __future__ import annotations

from pathlib import Path

from shards.exports.standalone_verify import differences
from shards.tars.manifest import Manifest


def check(folder: Path, manifest: Manifest) -> list[str]:
    """All differences between a folder and its manifest, one line each; rehashes every file.

    Tars that are not in the manifest are differences; other extra files are not.
    """
    return differences(folder, manifest.model_dump())
