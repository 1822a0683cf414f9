"""Check this data set against its manifest.json: python verify.py [FOLDER]

Prints one line per difference; exits with 0 if there is none, else with 1. Needs only Python 3.8 or newer, because
it is copied as verify.py into the folders it checks.
"""

from __future__ import annotations

import hashlib
import json
import stat
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping  # noqa: UP035 -- runs on Python 3.8


def differences(folder: Path, manifest: Mapping[str, Any]) -> List[str]:  # noqa: UP006
    """What is missing, extra or changed in `folder`, one line each, in order of the names."""
    listed: Dict[str, Any] = {}  # noqa: UP006
    found = []
    for entry in [*manifest["shards"], *manifest.get("files", [])]:
        name = entry["name"]
        if name in listed:
            found.append(f"{name}: listed twice")
        elif name.startswith("/") or "\\" in name or ".." in name.split("/"):
            found.append(f"{name!r}: unsafe name")
        else:
            listed[name] = entry
            found.extend(f"{name}: {problem}" for problem in _problems(folder / name, entry))
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*.tar")}
    found.extend(f"{name}: not in the manifest" for name in present - set(listed))
    return sorted(found)


def _problems(path: Path, entry: Mapping[str, Any]) -> List[str]:  # noqa: UP006
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return ["not a regular file"]
        if status.st_size != entry["bytes"]:
            return [f"{status.st_size} bytes, expected {entry['bytes']}"]
        digest = _sha256(path)
    except (FileNotFoundError, NotADirectoryError):
        return ["missing"]
    except OSError as error:
        return [f"unreadable: {error.strerror}"]
    return [] if digest == entry["sha256"] else [f"sha256 {digest}, expected {entry['sha256']}"]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> int:
    """Check the folder given, or the one this file lies in."""
    if len(sys.argv) > 2 or sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 1
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).resolve().parent
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found = differences(folder, manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"{folder / 'manifest.json'}: unreadable: {error!r}")
        return 1
    print("\n".join(found) or f"{folder}: {len(manifest['shards'])} tars and all other files are as published")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
