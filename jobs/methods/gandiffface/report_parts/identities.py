"""The report's part on the identities: how well they meet the demographic target."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.gandiffface.identities.plan import NAME
from jobs.report.part import Section, Sets, summary


def identities(run: Run, sets: Sets) -> Section:
    """Wished and realized shares by label and by cell, and why candidates were left out."""
    done = summary(run, NAME)
    if not done:
        return None
    figures = done.figures
    left_out = {reason: count for reason, count in done.counts.items() if reason != "chosen"}
    return {
        "count": figures["identities"],
        "usable": figures["usable_candidates"],
        "labels": figures["labels"],
        "cells": figures["cells"] if len(figures["cells"]) > 1 else {},
        "left_out": left_out,
    }
