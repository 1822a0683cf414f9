"""Thresholds come from people held out of training; the verdict lists what to drop and why."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from shards.errors import DataError
from shards.privacy.findings import ClosestMatches, Findings
from shards.privacy.leaks import Leak, Reason, outcomes
from shards.privacy.membership import membership
from shards.privacy.thresholds import Thresholds, leaks_of
from shards.privacy.verdict import Verdict


def table(names: list[str], face: list[float], center: list[float]) -> ClosestMatches:
    return ClosestMatches(
        names=names,
        face=[f"face-of-{name}" for name in names],
        face_cosine=face,
        center=[f"center-of-{name}" for name in names],
        center_cosine=center,
    )


def findings(images: ClosestMatches, people: ClosestMatches, identities: list[str], *pixels: Leak) -> Findings:
    return Findings(images=images, people=people, identities=identities, pixels=list(pixels), probes=[], references=9)


def control(count: int = 1000, *, people: int = 100, seed: int = 0) -> Findings:
    draw = np.random.default_rng(seed)
    names = [f"image-{row}" for row in range(count)]
    persons = [f"person-{row}" for row in range(people)]
    return findings(
        table(names, draw.normal(0.3, 0.1, count).tolist(), draw.normal(0.4, 0.1, count).tolist()),
        table(persons, draw.normal(0.5, 0.1, people).tolist(), draw.normal(0.6, 0.1, people).tolist()),
        [persons[row * people // count] for row in range(count)],
    )


THRESHOLDS = Thresholds(
    image_to_face=0.5, image_to_center=0.6, identity_to_face=0.7, identity_to_center=0.8, basis="by test"
)


@pytest.mark.parametrize("rate", [0.005, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("people", [1, 3, 100])
def test_at_most_the_requested_rate_of_unseen_faces_counts_as_leaks_over_all_reasons(rate, people):
    group = control(people=people)
    thresholds = Thresholds.from_control(group, rate=rate, people="held-out people")
    alarms = {leak.key for leak in leaks_of(group, thresholds)}
    assert len(alarms) <= rate * 1000
    assert len(alarms) >= 0.5 * rate * 1000 or people > 1  # with many people their means may take the whole rate


def test_a_rate_that_the_control_group_cannot_resolve_is_refused():
    with pytest.raises(DataError, match=r"audit.false_alarms: got 0.05, .* 40 faces resolves .* 1.2e-01; raise it"):
        Thresholds.from_control(control(40, people=4), rate=0.05, people="held-out people")
    with pytest.raises(DataError, match="between 0 and 1"):
        Thresholds.from_control(control(), rate=0.0, people="held-out people")


def test_an_image_leaks_by_itself_or_by_its_identity():
    leaks = leaks_of(
        findings(
            table(["x", "y", "z"], [0.5, 0.49, 0.1], [0.1, 0.61, 0.59]),
            table(["p", "q"], [0.1, 0.75], [0.1, 0.79]),
            ["p", "p", "q"],
            Leak(key="y", reason=Reason.NEAR_PIXELS, real="r"),
        ),
        THRESHOLDS,
    )
    assert leaks == [
        Leak(key="y", reason=Reason.NEAR_PIXELS, real="r"),
        Leak(key="x", reason=Reason.TOO_SIMILAR, real="face-of-x", cosine=0.5),
        Leak(key="y", reason=Reason.TOO_SIMILAR_TO_CENTER, real="center-of-y", cosine=0.61),
        Leak(key="z", reason=Reason.IDENTITY_TOO_SIMILAR, real="face-of-q", cosine=0.75),
    ]


def test_all_images_of_a_leaked_identity_leak():
    people = table(["p"], [0.1], [0.8])
    leaks = leaks_of(findings(table(["x", "y"], [0.0] * 2, [0.0] * 2), people, ["p", "p"]), THRESHOLDS)
    assert [(leak.key, leak.reason, leak.real) for leak in leaks] == [
        ("x", Reason.IDENTITY_TOO_SIMILAR_TO_CENTER, "center-of-p"),
        ("y", Reason.IDENTITY_TOO_SIMILAR_TO_CENTER, "center-of-p"),
    ]


LEAKS = (
    Leak(key="b", reason=Reason.TOO_SIMILAR, real="000000017", cosine=0.9),
    Leak(key="a", reason=Reason.EXACT_PIXELS, real="000000017"),
    Leak(key="b", reason=Reason.NEAR_PIXELS, real="000000018"),
    Leak(key="c", reason=Reason.TOO_SIMILAR_TO_CENTER, real="a private name", cosine=0.7),
)


def verdict() -> Verdict:
    return Verdict(
        passed=True,
        images=9,
        references=8,
        embedder="judge",
        independent=True,
        thresholds=THRESHOLDS,
        judged={"x.tar": "00"},
        leaks=LEAKS,
        figures={"leak_rate_by": {"m": {"0": 0.1}}, "closest": [{"key": "d", "real": "000000019", "cosine": 0.4}]},
    )


def test_a_verdict_lists_the_images_to_drop_and_is_stored_as_json():
    assert verdict().dropped == ["a", "b", "c"]
    record = json.loads(json.dumps(verdict().record(), allow_nan=False))
    assert {reason: count for reason, count in record["counts"].items() if count} == {
        "exact_pixels": 1,
        "near_pixels": 1,
        "too_similar": 1,
        "too_similar_to_center": 1,
    }
    assert Verdict.from_record(record) == verdict()


def test_replaced_images_are_leaked_but_not_dropped():
    settled = replace(verdict(), refilled=("b",))
    assert (sorted(settled.leaked), settled.dropped) == (["a", "b", "c"], ["a", "c"])
    record = json.loads(json.dumps(settled.public_record()))
    assert (record["dropped"], record["refilled"]) == (["a", "c"], ["b"])
    assert Verdict.from_record(json.loads(json.dumps(settled.record()))) == settled


def test_an_old_verdict_with_rates_by_m_is_read():
    old = verdict().record()
    old["figures"] = {"leak_rate_by_m": {"0": 0.1}, "by_false_match_rate": [{"fmr": 0.1, "rate_by_m": {"0": 0.2}}]}
    assert Verdict.from_record(old).figures == {
        "leak_rate_by": {"m": {"0": 0.1}},
        "by_false_match_rate": [{"fmr": 0.1, "rate_by": {"m": {"0": 0.2}}}],
    }


def test_the_published_part_of_a_verdict_names_no_real_face_or_person():
    text = json.dumps(verdict().public_record())
    assert "00000001" not in text
    assert "a private name" not in text
    assert json.loads(text)["dropped"] == ["a", "b", "c"]


def test_every_image_gets_its_strictest_outcome():
    assert outcomes(LEAKS, images=9) == {
        "clear": 6,
        "exact_pixels": 1,
        "near_pixels": 1,
        "too_similar_to_center": 1,
    }


def test_the_membership_signal_is_the_probability_that_a_training_image_is_closer():
    low, high = np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.4])
    pairs = [(a > b) + 0.5 * (a == b) for a in high for b in low]
    assert membership(high, low)["auc"] == pytest.approx(np.mean(pairs))
    same = np.random.default_rng(0).normal(size=(2, 2000))
    signal = membership(same[0], same[1])
    assert abs(signal["auc"] - 0.5) < 4 * signal["standard_error"]
    assert membership(same[0] + 1, same[1])["auc"] > 0.7
