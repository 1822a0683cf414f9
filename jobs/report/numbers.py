"""How numbers look on the page and in its tables: the templates' filters."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit


def number(value: int) -> str:
    """A count with separators of thousands."""
    return f"{value:,}"


def percent(value: float, digits: int = 1) -> str:
    """A fraction in percent."""
    return f"{100 * value:.{digits}f}{SPACE}%"


def decimal(value: float, digits: int = 2) -> str:
    """A plain number; "not defined" for an infinite or undefined one."""
    return f"{value:,.{digits}f}".replace("-", MINUS) if math.isfinite(value) else "not defined"


def points(value: float) -> str:
    """A difference in percentage points, with its sign."""
    return f"{value:+.1f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, with as many digits as matter."""
    if seconds < 10:
        return f"{seconds:.2g}{SPACE}s"
    if seconds < 120:
        return f"{seconds:.0f}{SPACE}s"
    return f"{seconds / 60:.1f}{SPACE}min" if seconds < 7200 else f"{seconds / 3600:.1f}{SPACE}h"


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f}{SPACE}{unit}" if unit == "bytes" else f"{count:.1f}{SPACE}{unit}"
        count /= 1000
    return f"{count:.1f}{SPACE}TB"


FILTERS = {
    "number": number,
    "percent": percent,
    "decimal": decimal,
    "points": points,
    "duration": duration,
    "size": size,
}
