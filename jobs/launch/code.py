"""The code that jobs run: where it is and where a job starts."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[2]

START = PROJECT / "jobs" / "safe_start.py"  # starts a local rank

ENTRY = "jobs.launch.entry:main"
