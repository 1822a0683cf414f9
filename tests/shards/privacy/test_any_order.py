"""What an audit finds does not depend on the order or the cut of its parts, and every image is counted once."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest

from shards.errors import DataError
from shards.privacy.findings import ClosestMatches, Findings, join_findings
from shards.privacy.fingerprints import Vectors, centers_of, concatenated, vectors_bytes
from shards.privacy.leaks import IDENTITY_REASONS, Leak, Reason, outcomes, worst_leaks
from shards.privacy.membership import membership
from shards.privacy.thresholds import MIN_FALSE_ALARMS, Thresholds, identity_leaks, leaks_of

from ..pictures import unit_features


def matches(names: list[str], draw: np.random.Generator) -> ClosestMatches:
    face, center = draw.normal(0.4, 0.2, (2, len(names))).clip(-1, 1).round(6).tolist()
    return ClosestMatches(
        names=names,
        face=[f"f-{name}" for name in names],
        face_cosine=face,
        center=[f"c-{name}" for name in names],
        center_cosine=center,
    )


def findings(seed: int, *, images: int = 12, people: int = 3, probes: int = 2) -> Findings:
    draw = np.random.default_rng(seed)
    names = [f"{seed}-{row}" for row in range(images)]
    persons = [f"{seed}-p{row}" for row in range(people)]
    pixels = [Leak(key=names[row], reason=Reason.NEAR_PIXELS, real=f"r{row}") for row in range(seed % 3)]
    return Findings(
        images=matches(names, draw),
        people=matches(persons, draw),
        identities=[persons[row % people] for row in range(images)],
        pixels=pixels,
        probes=draw.random(probes).tolist(),
        references=50,
    )


def thresholds(value: float) -> Thresholds:
    names = ("image_to_face", "image_to_center", "identity_to_face", "identity_to_center")
    return Thresholds(**dict.fromkeys(names, value), basis="by test")


def random_leaks(seed: int) -> list[Leak]:
    draw = random.Random(seed)
    return [
        Leak(
            key=f"k{draw.randrange(8)}",
            reason=draw.choice(list(Reason)),
            real=f"r{number}",
            cosine=draw.choice([None, draw.random()]),
        )
        for number in range(draw.randrange(30))
    ]


@pytest.mark.parametrize("seed", range(15))
def test_every_image_has_one_outcome_and_the_counts_add_up_in_any_order(seed):
    leaks = random_leaks(seed)
    counts = outcomes(leaks, images=10)
    assert sum(counts.values()) == 10
    assert counts["clear"] == 10 - len({leak.key for leak in leaks})
    shuffled = random.Random(seed).sample(leaks, len(leaks))
    assert outcomes(shuffled, images=10) == counts
    assert [(leak.key, leak.reason) for leak in worst_leaks(shuffled)] == [
        (leak.key, leak.reason) for leak in worst_leaks(leaks)
    ]
    strictness = list(Reason)
    for worst in worst_leaks(leaks):
        own = [leak for leak in leaks if leak.key == worst.key]
        assert min(strictness.index(leak.reason) for leak in own) == strictness.index(worst.reason)
        assert (worst.cosine or 0) == max(leak.cosine or 0 for leak in own if leak.reason == worst.reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_leak_of_every_reason_survives_json(reason):
    leak = Leak(key="k", reason=reason, real="r", cosine=0.25)
    assert Leak.from_record(json.loads(json.dumps(vars(leak)))) == leak
    assert (reason in IDENTITY_REASONS) == reason.value.startswith("identity_")


def test_a_leak_of_an_unknown_reason_is_refused():
    with pytest.raises(ValueError, match="'looks_alike' is not a valid Reason"):
        Leak.from_record({"key": "k", "reason": "looks_alike", "real": "r"})


@pytest.mark.parametrize("seed", range(8))
def test_findings_may_be_joined_in_any_grouping(seed):
    parts = [findings(seed * 5 + number, images=3 + number) for number in range(4)]
    whole = join_findings(parts)
    assert join_findings([join_findings(parts[:2]), join_findings(parts[2:])]) == whole
    assert join_findings([whole]) == whole
    assert Findings.from_json(json.loads(json.dumps(whole.as_json()))) == whole
    assert len(whole.images.names) == len(whole.identities) == sum(len(part.identities) for part in parts)
    assert whole.probes == np.max([part.probes for part in parts], axis=0).tolist()


def test_findings_without_probes_are_joined_and_those_of_other_references_refused():
    assert join_findings([findings(0, probes=0), findings(1, probes=0)]).probes == []
    other = Findings(**{**vars(findings(1)), "references": 51})
    with pytest.raises(DataError, match="findings about different real sets, or none; run the audit again"):
        join_findings([findings(0), other])


@pytest.mark.parametrize("seed", range(8))
def test_leaks_of_joined_findings_are_those_of_the_parts(seed):
    parts = [findings(seed * 3 + number) for number in range(3)]
    together = leaks_of(join_findings(parts), thresholds(0.5))
    alone = [leak for part in parts for leak in leaks_of(part, thresholds(0.5))]
    assert sorted(together, key=repr) == sorted(alone, key=repr)


@pytest.mark.parametrize("seed", range(8))
def test_a_lower_threshold_never_clears_an_image(seed):
    group = findings(seed, images=30, people=6)
    leaked = [{leak.key for leak in leaks_of(group, thresholds(value))} for value in np.linspace(-1, 1.01, 12)]
    for lower, higher in itertools.pairwise(leaked):
        assert higher <= lower
    assert len(leaked[0]) == 30
    assert leaked[-1] == {leak.key for leak in group.pixels}


def test_a_cosine_equal_to_its_threshold_is_a_leak_and_the_identity_takes_all_its_images():
    people = ClosestMatches(
        names=["a", "b"], face=["x", "y"], face_cosine=[0.5, 0.4], center=["", ""], center_cosine=[0, 0]
    )
    found = identity_leaks(people, {"1": "a", "2": "b", "3": "a"}, thresholds(0.5))
    assert [(leak.key, leak.reason, leak.real, leak.cosine) for leak in found] == [
        ("1", Reason.IDENTITY_TOO_SIMILAR, "x", 0.5),
        ("3", Reason.IDENTITY_TOO_SIMILAR, "x", 0.5),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_lower_rate_of_false_alarms_never_lowers_a_threshold(seed):
    control = findings(seed * 3, images=400, people=80)
    made = [Thresholds.from_control(control, rate=rate, people="p") for rate in (0.02, 0.05, 0.2, 0.6)]
    for rate, strict in zip((0.02, 0.05, 0.2, 0.6), made, strict=True):
        assert len({leak.key for leak in leaks_of(control, strict)}) <= rate * 400
        assert strict.basis == f"at most {rate:.1%} of 400 faces of 80 p would count as a leak"
    for low, high in itertools.pairwise(made):
        assert low.image_to_face >= high.image_to_face
        assert low.identity_to_center >= high.identity_to_center


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(DataError, match=rf"rate: got {rate}, allowed are values between 0 and 1"):
        Thresholds.from_control(findings(0), rate=rate, people="p")


def test_the_lowest_rate_that_the_refusal_names_is_accepted():
    control = findings(0, images=100, people=10)
    with pytest.raises(DataError, match=r"100 faces resolves at least 5\.0e-02; raise it, or hold out more people"):
        Thresholds.from_control(control, rate=0.049, people="p")
    assert Thresholds.from_control(control, rate=MIN_FALSE_ALARMS / 100, people="p")


@pytest.mark.parametrize("seed", range(10))
def test_the_membership_signal_is_that_of_all_pairs_and_turns_with_the_groups(seed):
    draw = np.random.default_rng(seed)
    trained, kept_back = draw.integers(0, 6, 5 + seed) / 7, draw.integers(0, 6, 9) / 7  # with ties
    signal = membership(trained, kept_back)
    pairs = (trained[:, None] > kept_back) + 0.5 * (trained[:, None] == kept_back)
    assert signal["auc"] == pytest.approx(pairs.mean())
    assert membership(kept_back, trained)["auc"] == pytest.approx(1 - signal["auc"])
    assert membership(np.exp(3 * trained), np.exp(3 * kept_back))["auc"] == signal["auc"]
    assert (signal["trained"], signal["kept_back"]) == (5 + seed, 9)
    assert membership(trained, trained)["auc"] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(6))
def test_centers_are_the_same_for_any_cut_and_come_in_name_order(seed):
    draw = np.random.default_rng(seed)
    people = [f"p{number}" for number in draw.integers(0, 5, 30)]
    whole = Vectors(keys=[str(row) for row in range(30)], identities=people, features=unit_features(30, seed=seed))
    cuts = [0, *np.sort(draw.choice(np.arange(1, 30), 3, replace=False)).tolist(), 30]
    parts = [
        Vectors(keys=whole.keys[a:b], identities=people[a:b], features=whole.features[a:b])
        for a, b in itertools.pairwise(cuts)
    ]
    one, many = centers_of([whole]), centers_of(parts)
    assert one.keys == many.keys == sorted(set(people))
    np.testing.assert_allclose(one.features, many.features, atol=1e-6)
    assert vectors_bytes(concatenated(parts), embedder="net") == vectors_bytes(whole, embedder="net")


def test_centers_of_no_faces_are_refused():
    with pytest.raises(DataError, match="centers: got no real faces; shard some first"):
        centers_of([])
