"""The report's part on the identities: how well they meet the demographic target."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.gandiffface.identities.plan import NAME
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.report.part import Section, Sets, summary


def identities(run: Run, sets: Sets) -> Section:
    """Wished and realized shares by label and by cell, also by a judge, and why candidates were left out."""
    done = summary(run, NAME)
    if not done:
        return None
    figures = done.figures
    made = summary(run, PORTRAITS)
    judged = made.figures.get("target", {}) if made else {}
    left_out = {reason: count for reason, count in done.counts.items() if reason != "chosen"}
    return {
        "count": figures["identities"],
        "usable": figures["usable_candidates"],
        "labels": figures["labels"],
        "cells": figures["cells"] if len(figures["cells"]) > 1 else {},
        "left_out": left_out,
        "judged": {name: found for name, found in judged.items() if found},
        "not_judged": [name for name, found in judged.items() if not found],
        "errors": made.figures.get("errors", []) if made else [],
    }
