"""The greedy choice of identities: each is dissimilar to all chosen before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BLOCK = 1024  # candidates compared at once

CHUNK = 16_384  # chosen ones that a block is compared with at a time: 64 MB of cosines


class GreedyChoice:
    """Takes candidates in order whose cosine to every one taken before is below `max_cosine`, until there are `count`.

    Candidates are offered in pieces of any size; memory is the taken ones (count x width floats) and one block of
    cosines. With `room`, at most that many candidates are taken per group, and none of other groups.
    """

    def __init__(self, *, count: int, width: int, max_cosine: float, room: Mapping[str, int] | None = None) -> None:
        self.max_cosine = max_cosine
        self.room = dict(room) if room is not None else None
        self.taken = 0
        self._kept = np.empty((count, width), np.float32)

    @property
    def full(self) -> bool:
        return self.taken == len(self._kept) or (self.room is not None and not any(self.room.values()))

    def offer(self, features: np.ndarray, *, groups: Sequence[str | None] | None = None) -> list[int]:
        """Which rows of features (N, width) are taken; groups has the group of each, None where it is unknown."""
        rows: list[int] = []
        for first in range(0, len(features), BLOCK):
            if self.full:
                break
            block = np.asarray(features[first : first + BLOCK], np.float32)
            unit = block / np.linalg.norm(block, axis=1, keepdims=True)
            free = np.array([row for row in range(len(unit)) if self._has_room(groups, first + row)], np.int64)
            for chunk in range(0, self.taken, CHUNK):  # a candidate refused early costs no more products
                kept = self._kept[chunk : min(chunk + CHUNK, self.taken)]
                free = free[(unit[free] @ kept.T < self.max_cosine).all(axis=1)]
            rows += [first + row for row in self._take(unit, free, first=first, groups=groups)]
        return rows

    def _take(
        self, unit: np.ndarray, free: np.ndarray, *, first: int, groups: Sequence[str | None] | None
    ) -> list[int]:
        """Of rows that are free of all taken before, those that are free of each other, the first ones first."""
        near = unit[free] @ unit[free].T >= self.max_cosine
        refused = np.zeros(len(free), bool)
        rows: list[int] = []
        for place, row in enumerate(free.tolist()):
            if refused[place] or self.full or not self._has_room(groups, first + row):
                continue
            refused |= near[place]
            self._kept[self.taken] = unit[row]
            self.taken += 1
            if self.room is not None and groups is not None:
                self.room[str(groups[first + row])] -= 1
            rows.append(row)
        return rows

    def _has_room(self, groups: Sequence[str | None] | None, row: int) -> bool:
        if self.room is None or groups is None:
            return True
        group = groups[row]
        return group is not None and self.room.get(group, 0) > 0


def shares(quotas: Mapping[str, float], *, count: int) -> dict[str, int]:
    """`count` split in the proportions of `quotas`, whole numbers that add up (largest remainders)."""
    total = sum(quotas.values())
    exact = {group: count * quota / total for group, quota in quotas.items()}
    whole = {group: int(value) for group, value in exact.items()}
    by_remainder = sorted(exact, key=lambda group: whole[group] - exact[group])
    for group in by_remainder[: count - sum(whole.values())]:
        whole[group] += 1
    return whole
