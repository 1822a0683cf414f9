"""What a field allows, in the words of a message: pydantic's own are those of a programmer."""

from __future__ import annotations

import re

from pydantic_core import ErrorDetails

PATTERNS = {
    r"^[^\x00-\x1f\x7f]+$": "a path without line feeds and other control characters",
    r"^[^\x00-\x1f\x7f]*$": "text without line feeds and other control characters",
    r"^[A-Za-z0-9._:%/@,=+&|*\[\]-]+$": "letters, digits and . _ : % / @ , = + & | * [ ] -",
    r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$": "one line of text without control characters",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "letters, digits, dots, dashes and underscores, after a letter or digit",
    r"^[a-z0-9][a-z0-9._-]*$": "a-z, 0-9, dots, dashes and underscores, after a letter or digit",
    r"^[a-z0-9][a-z0-9._-]{0,79}$": "up to 80 of a-z, 0-9, dots, dashes and underscores, after a letter or digit",
    r"^(run:[A-Za-z0-9][A-Za-z0-9._-]{0,79}|[a-z0-9][a-z0-9._-]{0,79})$": (
        "up to 80 of a-z, 0-9, dots, dashes and underscores, after a letter or digit; or run:NAME"
    ),
    r"^[a-z0-9][a-z0-9_]*$": "a-z, 0-9 and underscores, after a letter or digit",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "letters, digits and underscores, after a letter or underscore",
    r"^[0-9]+\.[0-9]+\.[0-9]+$": "three numbers, such as 1.0.0",
}

BEGINNING = re.compile(r"^(?:Input|\w+) should (?:be |have )?")


def allowed_by(error: ErrorDetails) -> str:
    """What the field that an error is about allows."""
    if error["type"] == "string_pattern_mismatch":
        pattern = str(error.get("ctx", {}).get("pattern", ""))
        return PATTERNS.get(pattern, f"text of the form {pattern}")
    words = BEGINNING.sub("", error["msg"]).replace(" after validation", "")
    return (
        f"{words}, in quotes" if error["type"] == "string_type" and isinstance(error["input"], int | float) else words
    )
