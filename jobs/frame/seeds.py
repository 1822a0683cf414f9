"""Seeds. All randomness is a function of (seed, purpose, index), never of rank, batch size or time."""

from __future__ import annotations

import hashlib


def derive(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit seed for one purpose and one index, e.g. the noise of image 12."""
    text = f"{seed}/{purpose}/{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
