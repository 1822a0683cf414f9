"""Why an image of a list is not where it was looked for: another root, prefix or suffix of which it is there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from shards.errors import shown

MAX_FOLDERS = 1000  # inside the root, that are tried
MAX_PARTS = 32  # leading folders of a path, that are left away


def hint_in_folder(root: Path, path: str) -> str:
    """What to change so that the image `path` is found, as the end of a message; empty if nothing near has it."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or "\0" in path:
        return ""
    for base in (*root.absolute().parents[:2], *islice(_folders(root), MAX_FOLDERS)):
        if os.path.isfile(base / path):
            return f"; {base} has it: give that as images"
    for dropped in range(1, min(len(parts), MAX_PARTS + 1)):
        if os.path.isfile(root / Path(*parts[dropped:])):
            return f"; without {shown('/'.join(parts[:dropped]))}/ in front it would be there: change the list"
    same = PurePosixPath(path)
    for suffix in (".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".bmp", ".webp"):
        if os.path.isfile(root / same.with_suffix(suffix)):
            return f"; there is one that ends in {suffix}: set extension, or change the list"
    return ""


def hint_in_tar(members: Iterable[str], path: str) -> str:
    """As `hint_in_folder`, for the members of a tar."""
    for member in members:
        if member.endswith(f"/{path}"):
            return f"; it has {shown(member, limit=200)}: set prefix: {shown(member.removesuffix(path))}"
        if path.endswith(f"/{member}"):
            return f"; without {shown(path.removesuffix(member))} in front it would be there: change the list"
    return ""


def _folders(root: Path) -> Iterator[Path]:
    try:
        with os.scandir(root) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return
