"""The positive control: altered copies of real faces go through the audit, which must find them.

They are never part of the set. An audit whose net cannot tell faces apart, or whose thresholds no face reaches, passes
every set; this is how it is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.frame.products import SHARD
from jobs.frame.run import Run
from jobs.stages.audit.plan import AuditFaces
from jobs.stages.shared.embedding import NamedImages
from jobs.stages.shared.gate.certified import certified_set
from jobs.stages.shared.gate.lineage import own_tars
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.privacy.copies.alterations import ALTERATIONS, MILD, PLAIN, altered
from shards.privacy.findings import Findings
from shards.privacy.intervals import wilson
from shards.privacy.leaks import IDENTITY_REASONS, Reason
from shards.privacy.thresholds import Thresholds, leaks_of

NET_RECALL = 0.34  # that the net by itself needs: docs/audit.md has what small nets and random ones reach

BY_NET = frozenset({Reason.TOO_SIMILAR, Reason.TOO_SIMILAR_TO_CENTER})

QUALITY = 95  # of the JPEGs in which altered copies would be published; exact copies keep their pixels


def planted_copies(run: Run, *, count: int) -> NamedImages:
    """Altered copies of real training faces, evenly out of all; their keys are `<alteration>/<number>`.

    Args:
        count: of each alteration that an audit of the run's depth must find.
    """
    tars = own_tars(run)
    real = sum(tar.samples for tar in tars)
    names = list(ALTERATIONS) if run.section(AuditFaces).copies == "thorough" else [*PLAIN, *MILD]
    total = min(count, real) * len(names)
    rows = np.arange(total) * real // max(1, total)
    images, keys, first = [], [], 0
    for tar in tars:  # one is open at a time
        own = np.flatnonzero((rows >= first) & (rows < first + tar.samples)).tolist()
        start, first = first, first + tar.samples
        if not own:
            continue
        faces = certified_set(run, SHARD, tar.name)
        for number in own:
            name = names[number % len(names)]
            image = altered(faces.rgb(int(rows[number]) - start), name, seed=f"{run.seed}/{number}")
            images.append(image if name == "exact" else decode_rgb(encode_jpeg(image, quality=QUALITY)))
            keys.append(f"{name}/{number}")
    return NamedImages(keys=keys, identities=keys, images=images)


def planted_figures(
    findings: Sequence[Findings], thresholds: Thresholds, *, min_recall: float, thorough: bool
) -> dict[str, Any]:
    """How many planted copies were found, JSON-ready: by the audit, by its net alone, and by alteration.

    A thorough audit has to find all kinds, a quick one the plain ones. The net by itself has to find a third of the
    mildly altered ones: plain copies have nearly the same pixels, so a net that is no use finds them too.
    """
    keys = [key for part in findings for key in part.images.names]
    leaks = [leak for part in findings for leak in leaks_of(part, thresholds)]
    found = {leak.key for leak in leaks if leak.reason not in IDENTITY_REASONS}
    by_net = {leak.key for leak in leaks if leak.reason in BY_NET}
    promised = [key for key in keys if thorough or _alteration(key) in PLAIN]
    mild = [key for key in keys if _alteration(key) in MILD]
    audit, net = _recall(promised, found), _recall(mild, by_net)
    return {
        "min_recall": min_recall,
        "net_recall": NET_RECALL,
        "passed": audit["recall"] >= min_recall and net["recall"] >= NET_RECALL,
        "audit": audit,
        "net": net,
        "by_alteration": {
            name: _recall([key for key in keys if _alteration(key) == name], found)
            for name in dict.fromkeys(map(_alteration, keys))
        },
    }


def _alteration(key: str) -> str:
    return key.rpartition("/")[0]


def _recall(keys: Sequence[str], found: set[str]) -> dict[str, Any]:
    """Found of how many, as a rate with its 95 % interval (Wilson)."""
    hits = sum(key in found for key in keys)
    low, high = wilson(hits, len(keys))
    return {
        "found": hits,
        "images": len(keys),
        "recall": round(hits / max(1, len(keys)), 4),
        "interval": [round(low, 4), round(high, 4)],
    }
