"""The calibrated curve that `generate` reads."""

from __future__ import annotations

from cemiface.semihard.calibration import Calibration
from jobs.frame.run import Run
from jobs.methods.cemiface.calibrate.plan import NAME
from slurm.files import read_json

CURVE = "calibration.json"


def calibration(run: Run) -> Calibration:
    """The curve of the finished stage."""
    stored = read_json(run.stage_folder(NAME).output(CURVE))
    return Calibration(m=tuple(stored["m"]), cosine=tuple(stored["cosine"]))
