"""The positive control of the audit: a net that cannot tell faces apart fails it, or is refused before."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jobs.stages.audit.plan import AuditFaces, AuditUnit
from jobs.stages.audit.planted import planted_figures
from jobs.stages.fingerprint.plan import FingerprintUnit
from jobs.stages.publish.work import passed_verdict
from jobs.stages.shared.gate.copies import OnDevice
from shards.errors import DataError
from shards.privacy.copies.alterations import MILD, PLAIN
from shards.privacy.copies.hypotheses import FAMILIES
from shards.privacy.copies.search import family_scores
from shards.privacy.findings import ClosestMatches, Findings
from shards.privacy.leaks import Leak, Reason
from shards.privacy.thresholds import Thresholds
from shards.privacy.verdict import Verdict
from slurm.errors import RunError

KEYS = [f"{name}/{number}" for number in range(10) for name in (*PLAIN, *MILD)]

THRESHOLDS = Thresholds(
    image_to_face=0.6, image_to_center=0.7, identity_to_face=0.6, identity_to_center=0.7, basis="by test"
)


def findings(cosines: list[float], *, names: list[str] | None = None, pixels: bool = False) -> Findings:
    keys = names or KEYS
    found = ClosestMatches(names=keys, face=keys, face_cosine=cosines, center=keys, center_cosine=[0.1] * len(keys))
    leaks = [Leak(key=key, reason=Reason.EXACT_PIXELS, real=key) for key in keys] if pixels else []
    return Findings(images=found, people=found, identities=keys, pixels=leaks, probes=[], references=9)


def verdict(figures: dict[str, object]) -> Verdict:
    return Verdict(
        passed=False,
        images=30,
        references=9,
        embedder="net.safetensors",
        independent=True,
        thresholds=THRESHOLDS,
        judged={},
        leaks=(),
        figures={"planted": figures},
    )


def test_planted_copies_that_are_found_pass() -> None:
    figures = planted_figures([findings([0.99] * 60)], THRESHOLDS, min_recall=0.9, thorough=False)
    assert figures["passed"]
    assert figures["audit"] == {"found": 30, "images": 30, "recall": 1.0, "interval": [0.8865, 1.0]}
    assert list(figures["by_alteration"]) == [*PLAIN, *MILD]
    assert verdict(figures).missed is None


def test_a_net_that_finds_nothing_fails_even_if_pixels_find_all() -> None:
    figures = planted_figures([findings([0.5] * 60, pixels=True)], THRESHOLDS, min_recall=0.9, thorough=False)
    assert (figures["audit"]["found"], figures["net"]["found"], figures["passed"]) == (30, 0, False)
    assert verdict(figures).missed == (
        "the audit's net, net.safetensors, by itself found 0 of 30 planted copies of real faces (0.00), "
        "it needs 0.34; give a net that tells people apart (fingerprint.judge.weights)"
    )


def test_a_net_that_finds_plain_copies_only_fails() -> None:
    """As one with random weights does: nearly equal pixels give nearly equal embeddings under any net."""
    cosines = [0.99 if key.rpartition("/")[0] in PLAIN else 0.5 for key in KEYS]
    figures = planted_figures([findings(cosines)], THRESHOLDS, min_recall=0.9, thorough=False)
    assert (figures["audit"]["recall"], figures["net"]["recall"], figures["passed"]) == (1.0, 0.0, False)


def test_a_thorough_audit_has_to_find_all_kinds() -> None:
    cosines = [0.99 if key.rpartition("/")[0] in PLAIN else 0.5 for key in KEYS]
    figures = planted_figures([findings(cosines)], THRESHOLDS, min_recall=0.5, thorough=True)
    assert figures["audit"]["images"] == 60
    assert not figures["passed"]


def test_the_positive_control_cannot_be_switched_off() -> None:
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.5"):
        AuditFaces(min_recall=0)


def test_publish_says_why_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = planted_figures([findings([0.5] * 60)], THRESHOLDS, min_recall=0.9, thorough=False)
    monkeypatch.setattr("jobs.stages.publish.work.verdict_of", lambda run, stage: verdict(figures))
    with pytest.raises(RunError, match=r"publish: the audit failed: .* found 0 of 30 planted copies"):
        passed_verdict(SimpleNamespace())  # type: ignore[arg-type]


@pytest.mark.parametrize("cosine", [1.0, 0.99995])
def test_a_constant_net_is_refused_as_the_audit_s_net(cosine: float) -> None:
    names = [f"p{row}" for row in range(1000)]
    control = findings([cosine] * 1000, names=names)
    centers = replace(control.images, center_cosine=[cosine] * 1000)
    with pytest.raises(DataError, match=r"the audit's net gives different people the same embedding"):
        Thresholds.from_control(replace(control, images=centers, people=centers), rate=0.01, people="p")


def test_quick_leaves_units_and_fingerprints_as_they_were() -> None:
    assert FingerprintUnit(tar="real-00000.tar").as_json() == {"tar": "real-00000.tar"}
    assert AuditUnit(tar="synthetic-00000.tar").as_json() == {"tar": "synthetic-00000.tar"}
    older = {"copies", "min_recall"}
    assert not older & AuditFaces().fingerprint().keys()
    assert AuditFaces(copies="thorough").fingerprint()["copies"] == "thorough"


def test_the_product_on_a_device_gives_the_scores_of_the_one_in_numpy() -> None:
    draw, pairs = np.random.default_rng(0), 2 * len(FAMILIES)
    model = SimpleNamespace(
        owner=np.sort(draw.permutation(np.arange(60) % pairs)), first_of_family=np.arange(len(FAMILIES)) * 2
    )
    templates, references = draw.normal(size=(60, 400)), draw.normal(size=(50, 400))
    arrays = [array.astype(np.float32) for array in (templates, references, draw.random((pairs, 50)))]
    on_device = OnDevice(torch.device("cpu"))
    for _ in range(2):  # the references stay on the device
        np.testing.assert_allclose(on_device(*arrays, model), family_scores(*arrays, model), rtol=1e-4)  # type: ignore[arg-type]
