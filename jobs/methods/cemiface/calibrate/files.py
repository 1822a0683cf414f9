"""The files of calibrate: the cosines of each pilot unit, and the calibrated curve that `generate` reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cemiface.errors import ModelError
from cemiface.semihard.calibration import Calibration
from jobs.frame.run import Run
from jobs.methods.cemiface.calibrate.plan import NAME
from slurm.files import Output, publish, read_json

CALIBRATION = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The cosines to the inquiry faces that images generated with one m reached."""

    m: float
    cosines: tuple[float, ...]

    def as_json(self) -> bytes:
        """The content of a file `pilot-NNNNN.json`."""
        return json.dumps({"m": self.m, "cosines": self.cosines}).encode()


def read_pilot(path: Path) -> Pilot:
    """Read a file `pilot-NNNNN.json`.

    Raises:
        ModelError: the file is missing or damaged.
    """
    match read_json(path):
        case {"m": float() | int() as m, "cosines": [*cosines]}:
            return Pilot(m=m, cosines=tuple(cosines))
    raise ModelError(f"{path}: missing or damaged; delete {path.parent} and run `{NAME}` again")


def publish_calibration(run: Run, calibration: Calibration) -> Output:
    """Write the curve."""
    text = json.dumps({"m": calibration.m, "cosine": calibration.cosine}, indent=1)
    return publish(run.stage_folder(NAME).output(CALIBRATION), text.encode(), replace=True)


def read_calibration(run: Run) -> Calibration:
    """Read the curve that the finished stage wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = run.stage_folder(NAME).output(CALIBRATION)
    match read_json(path):
        case {"m": [*m], "cosine": [*cosine]}:
            return Calibration(m=tuple(m), cosine=tuple(cosine))
    raise ModelError(f"{path}: missing or damaged; delete {path.parent} and run `{NAME}` again")
