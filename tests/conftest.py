"""For all tests: the same start whatever started them."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell starts what it puts into the background with SIGINT ignored, and children inherit that for good.

    The tests that press Ctrl-C would press it in vain then.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
