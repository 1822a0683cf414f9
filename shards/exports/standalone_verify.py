"""Check this data set against its manifest.json: python verify.py [FOLDER] [--signer FILE]

Prints one line per difference; exits with 0 if there is none, else with 1. Files, links and folders that the manifest
does not name are differences, except for what systems and file servers put into folders, which is counted. So are
pictures that do not say that they are synthetic, if the set is of a version in which all do. Needs only Python 3.8 or
newer, because it is copied as verify.py into the folders it checks.

With --signer, the manifest also has to be signed by that signer: FILE is a public key, or an allowed_signers file of
ssh-keygen, which you got from the publisher in another way than this folder. That needs ssh-keygen (OpenSSH 8.1).
"""

# No `from __future__` here: it would import a module before the folder of this file is off the path.
import sys

if __name__ == "__main__" and not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the folder of this file: a json.py that somebody put beside it would be run

import hashlib
import json
import os
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple  # noqa: UP035 -- runs on Python 3.8

MANIFEST = "manifest.json"

SIGNATURE = "manifest.json.sig"  # of the manifest, as `ssh-keygen -Y sign` makes it; the manifest cannot name it

NAMESPACE, PRINCIPAL = "cemiface-dataset", "publisher"  # of the signature

# Lower case. Files that begin with ._ are litter, too.
LITTER = {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}

LITTER_FOLDERS = {
    *("@eadir", "@tmp", "_tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
    *("system volume information", "__macosx", ".appledouble", ".spotlight-v100", ".fseventsd", ".trashes"),
}

MAX_MANIFEST = 2**25  # bytes; 200,000 files

MARKED = "cemiface-manifest-2"  # format of the manifest of a set in which every picture says that it is synthetic

# The mark: an XMP packet (ISO 16684) in the header of the JPEG, with this value of IPTC's "Digital Source Type".
XMP = b"http://ns.adobe.com/xap/1.0/\0"
SOURCE_TYPE = b'DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"'
HEADER = 2**16  # bytes of a JPEG in which the mark is looked for


# By whether the manifest has the format MARKED.
MARKS = {
    True: "every picture says that it is synthetic",
    False: "unmarked: of an older version, whose pictures do not say that they are synthetic",
}


def differences(folder: Path, manifest: Mapping[str, Any]) -> List[str]:  # noqa: UP006
    """What is missing, extra or changed in `folder`, one line each, in order of the names."""
    listed: Dict[str, Any] = {}  # noqa: UP006
    found = []
    for entry in [*manifest["shards"], *manifest.get("files", [])]:
        name = entry["name"]
        if name in listed:
            found.append(f"{_shown(name)}: listed twice")
        elif name.startswith("/") or "\\" in name or ".." in name.split("/"):
            found.append(f"{name!r}: unsafe name")
        else:
            listed[name] = entry
            found.extend(f"{_shown(name)}: {problem}" for problem in _problems(folder / name, entry))
    if not found:
        found = without_marks(folder, manifest)
    found.extend(f"{_shown(name)}: not in the manifest" for name in unlisted(folder, listed))
    return sorted(found)


def without_marks(folder: Path, manifest: Mapping[str, Any]) -> List[str]:  # noqa: UP006
    """The tars with pictures that do not say that they are synthetic, one line each, if all in the set have to."""
    entries = manifest["shards"] if manifest.get("format") == MARKED else []
    return [line for entry in entries for line in _without_mark(folder, entry["name"])]


def _without_mark(folder: Path, name: str) -> List[str]:  # noqa: UP006
    """A line if pictures of a tar do not say that they are synthetic."""
    pictures, without = 0, []
    try:
        with tarfile.open(folder / name, "r:") as tar:
            for member in tar:
                if member.isreg() and member.name.endswith(".jpg"):
                    content = tar.extractfile(member)
                    pictures += 1
                    if content is None or not says_synthetic(content.read(HEADER)):
                        without.append(member.name)
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header in memory
    except (OSError, tarfile.TarError) as error:
        return [f"{_shown(name)}: unreadable: {error!a}"]
    if not without:
        return []
    some = f"{len(without)} of {pictures} pictures do not say that they are synthetic (first: {_shown(without[0])})"
    return [f"{_shown(name)}: {some}"]


def says_synthetic(jpeg: bytes) -> bool:
    """Whether the header of a JPEG has an XMP packet with the source type of synthetic pictures."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] != b"\xda":  # the start of the compressed picture
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        content = jpeg[at + 4 : end]
        if jpeg[at + 1 : at + 2] == b"\xe1" and content.startswith(XMP) and SOURCE_TYPE in content:
            return True
        at = end
    return False


def unlisted(folder: Path, listed: Mapping[str, Any]) -> Iterator[str]:
    """Everything in `folder` but litter, the `listed` names, the manifest, and folders that hold such names.

    Links are not followed: a link is listed itself, or it is not listed.
    """
    return (name for name, is_litter in _others(folder, listed) if not is_litter)


def _others(folder: Path, listed: Mapping[str, Any]) -> Iterator[Tuple[str, bool]]:  # noqa: UP006
    """Whatever is not listed, and whether it is litter."""
    folders = {"/".join(parts[:end]) for parts in (name.split("/") for name in listed) for end in range(1, len(parts))}
    pending = [""]
    while pending:
        under = pending.pop()
        with os.scandir(folder / under) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = under + entry.name
                if name in folders and entry.is_dir(follow_symlinks=False):
                    pending.append(name + "/")
                elif name not in listed and name not in (MANIFEST, SIGNATURE):
                    yield name, _is_litter(entry)


def _is_litter(entry: "os.DirEntry[str]") -> bool:
    name = entry.name.lower()
    if entry.is_dir(follow_symlinks=False):
        return name in LITTER_FOLDERS
    return entry.is_file(follow_symlinks=False) and (name in LITTER or name.startswith("._"))


def _problems(path: Path, entry: Mapping[str, Any]) -> List[str]:  # noqa: UP006
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return ["not a regular file"]
        if status.st_size != entry["bytes"]:
            return [f"{status.st_size} bytes, expected {entry['bytes']}"]
        digest = _sha256(path)
    except (FileNotFoundError, NotADirectoryError):
        return ["missing"]
    except OSError as error:
        return [f"unreadable: {error.strerror}"]
    return [] if digest == entry["sha256"] else [f"sha256 {digest}, expected {entry['sha256']}"]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _shown(name: str) -> str:
    """A name as part of one line; names of files may hold anything."""
    return name if name.isprintable() else ascii(name)


def signature(folder: Path, manifest: bytes, signer: Optional[Path]) -> Tuple[bool, str]:  # noqa: UP006, UP045
    """Whether the signature of a folder's manifest is as it should be, and what to say of it.

    Without a signer, nothing is wrong with any signature, and nothing is known of it.
    """
    path = folder / SIGNATURE
    if not os.path.lexists(path):
        asked = f"{SIGNATURE}: missing: the set is unsigned, and --signer was given"
        return (True, "unsigned") if signer is None else (False, asked)
    if not path.is_file() or path.is_symlink():
        return False, f"{SIGNATURE}: not a regular file"
    if signer is None:
        return True, "signed, but not checked: give --signer FILE"
    try:
        with tempfile.TemporaryDirectory() as own:
            signers = _allowed_signers(signer, Path(own))
            found = _ssh_keygen(b"", "find-principals", "-f", signers, "-s", str(path)).split("\n")[0].strip()
            _ssh_keygen(manifest, "verify", "-f", signers, "-I", found, "-n", NAMESPACE, "-s", str(path))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return False, f"{SIGNATURE}: not a signature by {_shown(str(signer))} of this {MANIFEST}: {_shown(str(error))}"
    return True, f"signed by {_shown(found)}, as {_shown(str(signer))} has it"


def _allowed_signers(signer: Path, own: Path) -> str:
    """A file of allowed signers: the one given, or one made of the public key that was given."""
    text = signer.read_text(encoding="utf-8")
    if not text.startswith(("ssh-", "ecdsa-", "sk-")):
        return str(signer)
    made = own / "allowed_signers"
    made.write_text(f'{PRINCIPAL} namespaces="{NAMESPACE}" {text}', encoding="utf-8")
    return str(made)


def _ssh_keygen(data: bytes, *arguments: str) -> str:
    """What `ssh-keygen -Y` prints; ValueError with its last line if it fails."""
    done = subprocess.run(
        ["ssh-keygen", "-Y", *arguments],  # noqa: S607 (found on PATH)
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise ValueError(lines[-1].strip() if lines else f"exit code {done.returncode}")
    return done.stdout.decode(errors="replace")


def _manifest(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST:
        raise ValueError(f"no regular file of at most {MAX_MANIFEST} bytes")
    return path.read_bytes()


def main() -> int:
    """Check the folder given, or the one this file lies in."""
    arguments, signer = sys.argv[1:], None
    if "--signer" in arguments[:-1]:
        at = arguments.index("--signer")
        signer = Path(arguments[at + 1])
        del arguments[at : at + 2]
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments):
        print(__doc__)
        return 1
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    try:
        data = _manifest(folder / MANIFEST)
        manifest = json.loads(data.decode("utf-8"))
        found = differences(folder, manifest)
        good, signed = signature(folder, data, signer)
        found += [] if good else [signed]
        names = {entry["name"]: None for entry in [*manifest["shards"], *manifest.get("files", [])]}
        ignored = sum(is_litter for _, is_litter in _others(folder, names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        print(f"{_shown(str(folder / MANIFEST))}: unreadable: {error!a}")
        return 1
    more = f" ({ignored} files of the system ignored)" if ignored else ""
    whole = f"{folder}: {len(manifest['shards'])} tars and all other files are as published{more}"
    print("\n".join(found) or f"{whole}; {MARKS[manifest.get('format') == MARKED]}; {signed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
