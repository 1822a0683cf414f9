"""Compares a published or imported folder with its manifest."""

from __future__ import annotations

from pathlib import Path

from shards.errors import DataError, shown
from shards.exports.standalone_verify import MARKS, SIGNATURE, differences, signature, unlisted, without_marks
from shards.tars.manifest import Manifest

VERIFY = "verify.py"

__all__ = ["SIGNATURE", "VERIFY", "check", "marks", "require_no_program", "require_nothing_else", "signed", "unmarked"]

PROGRAMS = (".py", ".pyc", ".pyw", ".pyd", ".so", ".pth", ".pyz", ".egg", ".whl", ".egg-link")  # python may run these


def check(folder: Path, manifest: Manifest) -> list[str]:
    """All differences between a folder and its manifest, one line each; rehashes every file.

    Whatever the manifest does not name is a difference, too: files of any kind, links and folders. So are pictures that
    do not say that they are synthetic, if the manifest says that all do.
    """
    return differences(folder, manifest.model_dump())


def unmarked(folder: Path, manifest: Manifest) -> list[str]:
    """The tars of a folder with pictures that do not say that they are synthetic although its manifest says so."""
    return without_marks(folder, manifest.model_dump())


def marks(manifest: Manifest) -> str:
    """Whether the pictures of a set say that they are synthetic, in words."""
    return MARKS[manifest.marked]


def signed(folder: Path, manifest: bytes, *, signer: Path | None) -> str:
    """What is known of the signature of a folder's manifest.

    Args:
        manifest: the bytes of its file.
        signer: a public key or a file of allowed signers; None if nobody asked whose signature it is.

    Raises:
        DataError: a signer is given, and the folder is not signed, or not by this one.
    """
    good, text = signature(folder, manifest, signer)
    if not good:
        raise DataError(f"{folder}: {text}; get the set again, or the signer from the publisher")
    return text


def require_nothing_else(folder: Path, manifest: Manifest) -> None:
    """Refuse a folder with anything that its manifest does not name; reads no file.

    Raises:
        DataError: names the first such file, link or folder.
    """
    entries = [*manifest.shards, *manifest.files]
    others = list(unlisted(folder, {entry.name: entry for entry in entries}))
    if others:
        more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
        raise DataError(
            f"{folder}: {shown(others[0])}{more} not in its manifest; allowed: the files that it names; "
            "remove the others, or copy the set again"
        )


def require_no_program(folder: Path, manifest: Manifest) -> None:
    """Refuse a set that brings modules of Python beside its `verify.py`, listed or not; reads no file.

    Raises:
        DataError: names the first one.
    """
    for entry in (*manifest.shards, *manifest.files):
        if entry.name != VERIFY and entry.name.lower().endswith(PROGRAMS):
            name = shown(entry.name)
            raise DataError(
                f"{folder}: its manifest names {name}; allowed of programs: {VERIFY}; get the set elsewhere"
            )
