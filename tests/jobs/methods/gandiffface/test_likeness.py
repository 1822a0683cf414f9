"""How study-scores compares pictures with portraits, and the set with the base before it has learned anybody."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.methods.gandiffface.study_scores.likeness import mated_means, paired, portrait_likeness
from jobs.methods.gandiffface.study_scores.untuned import EACH, chosen_pictures

X, Y = np.array([1.0, 0.0]), np.array([0.0, 1.0])
DIAGONAL = (X + Y) / np.sqrt(2)


def test_a_copied_portrait_is_nearer_to_it_than_to_the_center() -> None:
    found = portrait_likeness(np.stack([X, DIAGONAL]), np.array([0, 1]), [np.stack([X, Y])] * 2)
    assert found["to_center"].tolist() == pytest.approx([np.sqrt(0.5), 1])
    assert found["copying"].tolist() == pytest.approx([1 - np.sqrt(0.5), np.sqrt(0.5) - 1])


def test_mated_means_are_those_of_all_pairs_of_an_identity() -> None:
    draw = np.random.default_rng(0)
    unit = draw.normal(size=(5, 8))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first = np.mean([unit[0] @ unit[1], unit[0] @ unit[3], unit[1] @ unit[3]])
    assert mated_means(unit, np.array([0, 0, 1, 0, 1])).tolist() == pytest.approx([first, unit[2] @ unit[4]])


def test_differences_are_within_each_identity_so_that_their_interval_is_narrower_than_that_of_the_means() -> None:
    draw = np.random.default_rng(0)
    untuned = draw.uniform(0.0, 0.5, 50)
    found = paired({"mated": untuned + 0.1 + draw.normal(0, 0.01, 50)}, {"mated": untuned}, seed=1, rounds=50)["mated"]
    width = {name: one["interval"][1] - one["interval"][0] for name, one in found.items()}
    assert found["difference"]["value"] == pytest.approx(0.1, abs=0.01)
    assert width["difference"] < width["untuned"] / 5
    assert found["difference"]["interval"][0] > 0.09


def test_of_chosen_identities_the_first_pictures_are_taken_within_the_limit() -> None:
    labels = np.array([0] * 6 + [1] * 2 + [2] * 5)
    everybody = chosen_pictures(labels, images=100, seed=1)
    assert [rows.tolist() for rows in everybody] == [[0, 1, 2, 3], [6, 7], [8, 9, 10, 11]]
    some = chosen_pictures(labels, images=9, seed=1)
    assert len(some) == 2
    assert all(len(rows) <= EACH for rows in some)
