from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cemiface.recognition.selection import GreedyChoice, shares


def naive(features: np.ndarray, *, count: int, max_cosine: float, groups=None, room=None) -> list[int]:
    """Compare each candidate with each chosen one in turn, in double precision."""
    room = dict(room or {})
    chosen: list[int] = []
    for row, a in enumerate(features.astype(np.float64)):
        if len(chosen) == count:
            break
        if groups is not None and room.get(groups[row], 0) == 0:
            continue
        others = (features[other].astype(np.float64) for other in chosen)
        if all(a @ b / np.linalg.norm(a) / np.linalg.norm(b) < max_cosine for b in others):
            chosen.append(row)
            if groups is not None:
                room[groups[row]] -= 1
    return chosen


def crowd(people: int = 2500, *, width: int = 6) -> np.ndarray:
    """Many candidates in few dimensions: most of them are too similar to another."""
    return np.random.default_rng(0).normal(size=(people, width)).astype(np.float32) * 7


@pytest.mark.parametrize("pieces", [1, 3, 50])
@pytest.mark.parametrize(("count", "max_cosine"), [(40, 0.6), (1000, 0.9), (2000, 0.5)])
def test_blocked_products_choose_as_one_pair_at_a_time_does(pieces, count, max_cosine):
    features = crowd()
    choice = GreedyChoice(count=count, width=6, max_cosine=max_cosine)
    found, first = [], 0
    for piece in np.array_split(features, pieces):
        found += [first + row for row in choice.offer(piece)]
        first += len(piece)
    assert found == naive(features, count=count, max_cosine=max_cosine)
    assert choice.full == (len(found) == count)


def test_quotas_are_kept_and_identities_of_unknown_group_are_not_chosen():
    features = crowd(600)
    draw = np.random.default_rng(1)
    groups = [("a", "b", "other", None)[place] for place in draw.integers(0, 4, len(features))]
    room = {"a": 10, "b": 25}
    choice = GreedyChoice(count=35, width=6, max_cosine=0.9, room=room)
    found = choice.offer(features, groups=groups)
    assert found == naive(features, count=35, max_cosine=0.9, groups=groups, room=room)
    assert [groups[row] for row in found].count("a") == 10
    assert [groups[row] for row in found].count("b") == 25
    assert choice.full


def test_memory_depends_on_the_number_chosen_not_on_the_candidates():
    width, count, piece = 128, 2000, 4000
    choice = GreedyChoice(count=count, width=width, max_cosine=0.25)
    draw = np.random.default_rng(0)
    tracemalloc.start()
    while not choice.full:
        choice.offer(draw.normal(size=(piece, width)).astype(np.float32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * width * count + 4 * 1024 * count + 12 * piece * width + 8_000_000


def test_shares_are_whole_and_add_up():
    assert shares({"a": 0.5, "b": 0.5}, count=7) in ({"a": 4, "b": 3}, {"a": 3, "b": 4})
    assert sorted(shares({"a": 1, "b": 1, "c": 1}, count=100).values()) == [33, 33, 34]
    assert sum(shares({"a": 0.1, "b": 0.2, "c": 0.7}, count=9973).values()) == 9973
