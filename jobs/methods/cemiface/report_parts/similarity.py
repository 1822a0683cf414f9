"""TODO-DOC"""

from __future__ import annotations

import numpy as np

from jobs.frame.run import Run
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import similarity_plot


def similarity(run: Run, sets: Sets) -> Section:
    """Wished and measured similarity of every generated face."""
    if sets.synthetic is None:
        return None
    measured: dict[float, list[float]] = {}
    for record in sets.synthetic.records():
        measured.setdefault(record["m"], []).append(record["measured_cosine"])
    cosines = {m: np.asarray(measured[m]) for m in sorted(measured)}
    wishes = np.repeat(list(cosines), [len(values) for values in cosines.values()])
    values = np.concatenate(list(cosines.values()))
    varied = len(cosines) > 1 and values.std() > 0
    judged = _judged(run)
    return {
        "chart": similarity_plot(cosines),
        "rows": [
            {"m": m, "images": len(found), "mean": found.mean(), "std": found.std(), "judge": judged.get(m)}
            for m, found in cosines.items()
        ],
        "judged": bool(judged),
        "correlation": float(np.corrcoef(wishes, values)[0, 1]) if varied else None,
    }


def _judged(run: Run) -> dict[float, float]:
    """The mean cosine by m of a net that did not guide the generator, where the run has one."""
    done = summary(run, "evaluate")
    scored = done.figures["scores"].get("synthetic", {}) if done else {}
    return {row["m"]: row["mean"] for row in scored.get("judge_cosine_to_inquiry", [])}
