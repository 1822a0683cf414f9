"""Each report in docs/known_reports.md names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_report_names_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "docs" / "known_reports.md").read_text().splitlines() if line.startswith("| [")]
    assert len(rows) >= 6
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        (name,) = re.findall(r"`(test_\w+)` \|$", row)
        assert f"def {name}(" in tests, name
