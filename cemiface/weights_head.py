"""What can be said of a weights file before anything loads it. It imports no torch."""

from __future__ import annotations

import string
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cemiface.errors import ModelError

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")  # the last: Lightning's, as AdaFace publishes

PICKLE = b"\x80"  # the first byte of torch's format before 1.6; later ones are zip files


def read_head(path: Path) -> dict[str, str]:
    """The metadata of a weights file, empty unless it is safetensors; the weights are not looked at.

    Raises:
        ModelError: a missing file, text, an unknown suffix, or a file that is not whole.
    """
    if not path.is_file():
        raise ModelError(f"weights {path}: no such file")
    refuse_text(path)
    if path.suffix not in SUFFIXES:
        raise ModelError(f"weights {path}: got suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="numpy") as file:
                return dict(file.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise ModelError(f"weights {path}: not a whole safetensors file ({error}); fetch it again") from error
    with path.open("rb") as data:
        if data.read(1) != PICKLE and not zipfile.is_zipfile(path):  # a cut zip file has no directory at its end
            raise ModelError(f"weights {path}: not a whole weights file; fetch it again")
    return {}


def refuse_text(path: Path) -> None:
    """Refuse a Git LFS pointer or an error page, which a failed download leaves under the name of the weights."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"weights {path}: a Git LFS pointer of {path.stat().st_size} bytes, not the weights; run `git lfs pull`"
        )
    if head.startswith(b"<") or all(chr(byte) in string.printable for byte in head):
        raise ModelError(f"weights {path}: text of {path.stat().st_size} bytes, not weights; begins with {head[:40]!r}")
