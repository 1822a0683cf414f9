"""Names that users choose and that become files or folders beside the suite's own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from slurm.run_folder import StageFolder

# No file of these names can exist on Windows, whatever its ending; published sets are copied there.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}

OF_PATHS = '/\\:*?"<>|'  # characters that some system does not take for part of a name


@cache
def own_names() -> frozenset[str]:
    """The names of the suite's own files and folders in a stage's folder, with and without ending, in lower case."""
    root = Path("stage")
    paths = [value for value in vars(StageFolder(root)).values() if isinstance(value, Path)]
    names = {path.name.lower() for path in paths if path.parent == root}
    return frozenset(names | {name.partition(".")[0] for name in names})


def why_not_a_name(name: str) -> str | None:
    """What is allowed instead of a name that a user chose for a file or folder; None if the name is fine."""
    lower = name.lower()
    if lower in own_names() or lower.partition(".")[0] in DEVICES:
        own = ", ".join(sorted(own_names()))
        return f"any name but those of the suite's own files ({own}) and of devices (con, nul, com1 ...)"
    if not name or name != name.strip(" .") or any(one in OF_PATHS or not one.isprintable() for one in name):
        return f"a name without {' '.join(OF_PATHS)} and control characters that does not begin or end with a dot"
    return None
