"""The report's part on the study of score distributions: the paper's own way of judging a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.frame.products import REAL
from jobs.frame.run import Run
from jobs.methods.gandiffface.study_scores.plan import NAME
from jobs.report.part import Section, Sets, summary
from jobs.report.plots import BLUE, GRAY, ORANGE, score_plot
from slurm.files import read_json

COLORS = {REAL: BLUE, "portraits": GRAY}


def score_tables(run: Run, sets: Sets) -> Section:
    """Statistics of every set with intervals, by cell, the divergences from the real set, and the drift."""
    done = summary(run, NAME)
    if not done:
        return None
    figures, folder = done.figures, run.stage_folder(NAME)
    parts: dict[str, Any] = {
        one["set"]: read_json(folder.output(f"scores-{one['set']}.json")) for one in figures["sets"]
    }
    shares = {
        kind: {side: np.asarray(part[side]) / max(1, sum(part[side])) for side in ("mated", "non_mated")}
        for kind, part in parts.items()
    }
    top = 1.08 * max(share.max() for sides in shares.values() for share in sides.values())
    return {
        "sets": figures["sets"],
        "released": figures["released"],
        "divergences": figures.get("divergences", {}),
        "drift": figures.get("drift", {}),
        "likeness": next((one["likeness"] for one in figures["sets"] if "likeness" in one), None),
        "untuned": next(
            (one["against_set"] for one in figures["sets"] if "to_center" in one.get("against_set", {})), None
        ),
        "plots": {
            kind: score_plot(part["bins"], **shares[kind], color=COLORS.get(kind, ORANGE), top=top)
            for kind, part in parts.items()
        },
    }


def _of_one_set(sets: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """The figures `to_center` and others that one set has; None if none has them, or they are of no identity."""
    return next((one[name] for one in sets if "to_center" in one.get(name, {})), None)
