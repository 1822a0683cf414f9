"""`judged-<tar>.json`: what one unit of settle changed in its tar, written and read here alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from shards.privacy.leaks import Leak


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How a settled tar differs from the audited one, apart from the images that the audit dropped.

    Attributes:
        refilled: keys of the regenerated images in it.
        leaks: images left out because the new mean of their identity is too close to a real face or center.
    """

    refilled: tuple[str, ...]
    leaks: tuple[Leak, ...]


def changes_name(tar: str) -> str:
    """The file of a unit, by its tar."""
    return f"judged-{tar.removesuffix('.tar')}.json"


def changes_bytes(changes: Changes) -> bytes:
    """The content of the file, JSON."""
    text = json.dumps(asdict(changes), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode()


def read_changes(data: bytes) -> Changes:
    """What a finished unit changed, from its file."""
    value = json.loads(data)
    return Changes(refilled=tuple(value["refilled"]), leaks=tuple(Leak.from_record(leak) for leak in value["leaks"]))
