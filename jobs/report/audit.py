"""The report's part on the audit: the verdict, its reasons, what it does not cover, and the closest pairs."""

from __future__ import annotations

from typing import Any

from jobs.frame.products import AUDIT, SETTLE
from jobs.frame.run import Run
from jobs.frame.verdicts import shown_verdict
from jobs.report.faces import Pair, Picture, pair, picture_of_pixels
from jobs.report.lineage import not_covered
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import dropped_plot
from jobs.report.real_images import RealImages
from shards.privacy.copies.alterations import ALTERATIONS, altered
from shards.privacy.leaks import IDENTITY_REASONS, Leak, worst_leaks
from shards.privacy.verdict import Verdict
from shards.tars.shard_set import ShardSet

PAIRS = 12  # of either kind
REASONS = {
    "exact_pixels": "the same pixels as a real face",
    "exact_mirrored": "the same pixels as a mirrored real face",
    "near_pixels": "nearly the same pixels as a real face",
    "near_mirrored": "nearly the same pixels as a mirrored real face",
    "altered_copy": "an altered copy of a real face: cropped, rotated, covered, blurred, inverted",
    "too_similar": "cosine to a real face at or above the threshold",
    "too_similar_to_center": "cosine to a real person's center at or above the threshold",
    "identity_too_similar": "the mean of the identity is too close to a real face",
    "identity_too_similar_to_center": "the mean of the identity is too close to a real person's center",
}  # in order of strictness


def audit(run: Run, sets: Sets) -> Section:
    """The verdict, and the set as it stands after settling."""
    audited, settled = summary(run, AUDIT), summary(run, SETTLE)
    if audited is None or sets.synthetic is None or sets.real is None:
        return None
    verdict = shown_verdict(run)
    rates = verdict.figures["leak_rate_by"]
    return {
        "passed": verdict.passed and (settled is None or settled.figures["passed"]),
        "settled": {"images": settled.images_out, "refilled": 0, "withdrawn": 0, "on_request": 0, **settled.counts}
        if settled
        else None,
        "images": verdict.images,
        "references": verdict.references,
        "dropped": len(verdict.dropped),
        "allowed": audited.fingerprint[AUDIT]["max_dropped_fraction"],
        "embedder": verdict.embedder,
        "independent": verdict.independent,
        "not_covered": not_covered(run, verdict),
        "thresholds": verdict.thresholds,
        "reasons": [
            {"text": text, "images": verdict.counts[reason]}
            for reason, text in REASONS.items()
            if reason in verdict.counts
        ],
        "copies": verdict.figures.get("copies", "quick"),
        "planted": verdict.figures.get("planted"),
        "altered": _altered(verdict, synthetic=sets.synthetic),
        "missed": verdict.missed,
        "dropped_by": [
            {"key": key, "chart": dropped_plot(found, key=key)} for key, found in rates.items() if verdict.dropped
        ],
        "by_rate": verdict.figures["by_false_match_rate"],
        "asked": [(key, list(found)) for key, found in rates.items()],
        "membership": verdict.figures["membership"],
        "overlap": verdict.figures["overlap"],
        "dropped_pairs": _dropped_pairs(verdict, synthetic=sets.synthetic, real=RealImages(run)),
        "kept_pairs": _kept_pairs(verdict, synthetic=sets.synthetic, real=RealImages(run)),
    }


def _altered(verdict: Verdict, *, synthetic: ShardSet) -> dict[str, Picture]:
    """A synthetic face, which may be published, altered in each way that was planted."""
    names = verdict.figures.get("planted", {}).get("by_alteration", {})
    row = next((row for row, key in enumerate(synthetic.keys) if key not in verdict.leaked), None)
    if row is None:
        return {}
    face = synthetic.rgb(row)
    return {
        name: picture_of_pixels(altered(face, name, seed="sheet"), alt=f"a synthetic face, {name}")
        for name in names
        if name in ALTERATIONS
    }


def _dropped_pairs(verdict: Verdict, *, synthetic: ShardSet, real: RealImages) -> list[Pair]:
    """The worst leaks, one per synthetic face: pixel reasons first, then by falling cosine."""
    leaks = worst_leaks(verdict.leaks)[:PAIRS]
    return [pair(leak.key, leak.real, caption=_caption(leak), synthetic=synthetic, real=real) for leak in leaks]


def _caption(leak: Leak) -> str:
    if leak.cosine is None:
        return leak.reason.value.replace("_", " ")
    return f"{'identity, ' if leak.reason in IDENTITY_REASONS else ''}cosine {leak.cosine:.3f}"


def _kept_pairs(verdict: Verdict, *, synthetic: ShardSet, real: RealImages) -> list[Pair]:
    """The closest pairs among the faces that are kept."""
    closest: list[dict[str, Any]] = verdict.figures["closest"][:PAIRS]
    return [
        pair(found["key"], found["real"], caption=f"cosine {found['cosine']:.3f}", synthetic=synthetic, real=real)
        for found in closest
    ]
