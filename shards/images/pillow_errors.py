"""Pillow's errors on damaged files, as outcomes."""

from __future__ import annotations

import struct
import warnings
import zlib

from PIL import UnidentifiedImageError

from shards.images.outcomes import Outcome, RejectedImageError

# Every damaged file ends in an outcome, so Pillow's warnings about it would only fill the logs.
warnings.filterwarnings("ignore", module=r"PIL\.")

# What Pillow's parsers have been seen to raise on damaged files. Anything else is a bug and must not be caught.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
)

_ENDS_EARLY = ("truncated", "premature end", "end of file", "not enough")


def rejected(error: Exception) -> RejectedImageError:
    """The outcome for an error of one of the `DAMAGE` types: truncated or corrupt."""
    if isinstance(error, UnidentifiedImageError):  # its message contains a memory address
        return RejectedImageError(Outcome.CORRUPT, "the header cannot be parsed")
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    ends_early = any(phrase in message.lower() for phrase in _ENDS_EARLY)
    return RejectedImageError(Outcome.TRUNCATED if ends_early else Outcome.CORRUPT, message)
