"""For all tests: the same start whatever started them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """A shell starts what it puts into the background with SIGINT ignored, and children inherit that for good.

    The tests that press Ctrl-C would press it in vain then.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` has it ignored


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    """The command makes private files only, and it is run in this process by some tests: the next one starts anew."""
    before = os.umask(0o022)
    yield
    os.umask(before)
