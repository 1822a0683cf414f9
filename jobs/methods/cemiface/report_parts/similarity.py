"""The report's part on similarity: which cosine the generated faces have to their identity's inquiry face."""

from __future__ import annotations

import numpy as np

from jobs.frame.products import EVALUATE, SYNTHETIC
from jobs.frame.run import Run
from jobs.methods.cemiface.report_parts.plots import similarity_plot
from jobs.report.part import Section, Sets, summary
from shards.tars.records import Groups, asked_of, is_copy


def similarity(run: Run, sets: Sets) -> Section:
    """Requested and measured similarity of every generated face, by what was asked for: m, or a cosine."""
    if sets.synthetic is None:
        return None
    records = [record for record in sets.synthetic.records() if not is_copy(record)]
    asked = [asked_of(record) for record in records]
    groups = Groups(asked)
    key = next(iter(groups.labels))
    requested = np.array([one[key] for one in asked], np.float64)
    cosines = np.array([record["measured_cosine"] for record in records])
    labels = np.array([groups.label(key, one[key]) for one in asked], object)
    measured = {label: cosines[labels == label] for label in groups.labels[key]}
    varied = len(measured) > 1 and cosines.std() > 0
    second = _by_evaluation_net(run, key=key, groups=groups)
    return {
        "asked": key,
        "chart": similarity_plot({float(label): found for label, found in measured.items()}, asked=key),
        "rows": [
            {
                "asked": float(label),
                "images": len(found),
                "mean": found.mean(),
                "std": found.std(),
                "evaluation_net": second.get(label),
            }
            for label, found in measured.items()
        ],
        "evaluation_net": bool(second),
        "correlation": float(np.corrcoef(requested, cosines)[0, 1]) if varied else None,
    }


def _by_evaluation_net(run: Run, *, key: str, groups: Groups) -> dict[str, float]:
    """The mean cosine of each group under the evaluation net; none where that is E_id, which guided the generator."""
    done = summary(run, EVALUATE)
    scored = done.figures["scores"].get(SYNTHETIC, {}) if done else {}
    rows = scored.get("judge_cosine_to_inquiry", [])
    return {groups.label(key, row[key]): row["mean"] for row in rows if key in row}
