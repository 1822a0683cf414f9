"""The signature of a published manifest, made by `ssh-keygen`, which alone reads the group's key."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jobs.frame.errors import ConfigError
from shards.exports.standalone_verify import NAMESPACE, PRINCIPAL
from slurm.errors import RunError

FIELD = "publish.signing_key"

SECONDS = 60.0  # for ssh-keygen; it takes a few milliseconds


def public_key(path: Path | None) -> str | None:
    """The public half of a private key, "TYPE BASE64" without its comment; None if there is no key.

    Raises:
        ConfigError: ssh-keygen cannot use the file without a passphrase.
    """
    if path is None:
        return None
    try:
        shown = _ssh_keygen(("-y", "-P", "", "-f", str(path)))
    except RunError as error:
        raise ConfigError(
            f"{FIELD}: got {path}, ssh-keygen cannot use it ({error}); allowed: a private key without a passphrase "
            "that only you can read, as `ssh-keygen -t ed25519 -N '' -f FILE` makes it"
        ) from None
    return " ".join(shown.decode().split()[:2])  # what follows is a comment, often a name and a host


def allowed_signers(public: str) -> str:
    """The line that ssh-keygen needs to check a signature."""
    return f'{PRINCIPAL} namespaces="{NAMESPACE}" {public}\n'


def fingerprint(public: str) -> str:
    """The fingerprint of a public key, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def signature(data: bytes, *, key: Path) -> bytes:
    """The detached signature of some bytes.

    Raises:
        RunError: ssh-keygen made none.
    """
    try:
        return _ssh_keygen(("-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key)), data=data)
    except RunError as error:
        raise RunError(f"{FIELD}: ssh-keygen did not sign with {key}: {error}; nothing is published") from None


def _ssh_keygen(arguments: Sequence[str], *, data: bytes = b"") -> bytes:
    """What ssh-keygen prints.

    Raises:
        RunError: it is not installed, failed or took too long; with its last line.
    """
    try:
        # Without a terminal it asks for no passphrase and no touch of a token, it fails.
        done = subprocess.run(
            ["ssh-keygen", *arguments],  # noqa: S607 (ssh-keygen is found on PATH)
            input=data,
            capture_output=True,
            check=False,
            timeout=SECONDS,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise RunError("ssh-keygen is not installed") from None
    except subprocess.TimeoutExpired:
        raise RunError(f"no answer in {SECONDS:.0f} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        raise RunError(last or f"exit code {done.returncode}")
    return done.stdout
