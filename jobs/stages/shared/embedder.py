"""E_id, the frozen recognition net of the method: the user's weights, or the one this run trains on the real faces."""

from __future__ import annotations

from pathlib import Path

from jobs.frame.products import EMBEDDER, WEIGHTS
from jobs.frame.run import Run
from slurm.files import sha256_of


def embedder_needs(run: Run) -> tuple[str, ...]:
    """The stage that trains E_id, unless the config brings its weights."""
    return () if run.config.embedder.weights else (EMBEDDER,)


def embedder_path(run: Run) -> Path:
    """The weights file of E_id.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    weights = run.config.embedder.weights
    if not weights:
        return run.stage_folder(EMBEDDER).output(WEIGHTS)
    return run.given_file("embedder.weights", weights, give="a recognition net's weights")


def embedder_files(run: Run) -> dict[str, str]:
    """What E_id is from outside of the run, for fingerprints: nothing where the run trains it."""
    if not run.config.embedder.weights:
        return {}
    found = {"embedder.weights": sha256_of(embedder_path(run))}
    return found | ({"embedder.color": run.config.embedder.color} if run.config.embedder.color else {})
