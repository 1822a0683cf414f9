"""The error class of the data plane, and the place where errors of parsers turn into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SHOWN = 80  # characters of a value from a file, in a message


class DataError(ValueError):
    """A file, folder or argument is not valid.

    The message is one line for the user: the file or field, what was given, what is allowed, what to do.
    """


@contextmanager
def parsing(where: object, *, kind: str) -> Iterator[None]:
    """Around a parser that is not ours: whatever it raises on a damaged file becomes one line.

    Such parsers document few of the errors that they raise. The block must hold the parser's calls and nothing else,
    as mistakes of our own would look like damaged files.

    Args:
        where: the file, as it is named in the message.
        kind: what the file should be, such as "a readable zip file".

    Raises:
        DataError: in place of any other error.
    """
    try:
        yield
    except DataError:
        raise
    except BaseException as error:
        # A parser in Rust reports its own mistakes as a PanicException, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{where}: not {kind} ({reason_of(error)}); fetch it again") from None


def reason_of(error: BaseException) -> str:
    """The error as part of one line; its type where it has no message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shown(str(error)) if str(error) and not isinstance(error, KeyError) else f"{type(error).__name__} {error}"


def shown(text: str, *, limit: int = SHOWN) -> str:
    """The start of the first line of a text, printable: values from files may be of any length and content."""
    line = text[: 4 * limit].strip().partition("\n")[0]
    line = line if line.isprintable() else ascii(line)[1:-1]
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[:limit]}..."
