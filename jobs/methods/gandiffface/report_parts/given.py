"""The report's part on what the run was given: generator or faces, and attribute nets."""

from __future__ import annotations

from jobs.frame.run import Run
from jobs.methods.gandiffface.given_parts import recorded_parts
from jobs.report.part import Section, Sets


def given(run: Run, sets: Sets) -> Section:
    """Name, license and origin of each."""
    found = recorded_parts(run)
    return {"parts": found} if found else None
