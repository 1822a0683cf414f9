"""TODO-DOC"""

from __future__ import annotations

from pathlib import Path

from shards.exports.standalone_verify import differences
from shards.tars.manifest import Manifest


def check(folder: Path, manifest: Manifest) -> list[str]:
    """All differences between a folder and its manifest, one line each; rehashes every file.

    Other files may lie in the folder, other tars may not.
    """
    return differences(folder, manifest.model_dump())
