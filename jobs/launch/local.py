"""Running stages on this machine, one after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.interrupts import end_on_signals
from jobs.launch.local_stage import LocalStage
from jobs.launch.stage_work import require_finished
from slurm.errors import RunError

log = logging.getLogger(__name__)


def run_local(run: Run, stages: Sequence[Stage[Unit]]) -> None:
    """Run the stages one after the other, each as local processes.

    If a stage fails, the stages that need it are skipped and all others run, e.g. the report of an unpublished run.

    Raises:
        RunError: a stage failed; the message names the rank and its log.
        KeyboardInterrupt: after Ctrl-C, SIGTERM or the end of the terminal, once the ranks have saved their work.
    """
    end_on_signals()
    failed: dict[str, RunError] = {}
    for stage in stages:
        missing = failed.keys() & set(stage.needs(run))
        try:
            if missing:
                raise RunError(f"{stage.name}: not run, it needs {', '.join(sorted(missing))}")
            _run_stage(run, stage)
        except RunError as error:
            log.error("%s", error)
            failed[stage.name] = error
    if failed:
        raise next(iter(failed.values()))


def _run_stage(run: Run, stage: Stage[Unit]) -> None:
    for name in stage.needs(run):
        require_finished(run, name, needed_by=stage)
    if run.ledger.why_not_finished(stage) is None:
        log.info("%s: already done", stage.name)
        return
    forecast = stage.forecast(run)
    if forecast is not None:
        log.info("%s", forecast)
    started = time.monotonic()
    LocalStage(run, stage).work()
    left = run.ledger.why_not_finished(stage)
    if left is not None:
        raise RunError(f"{stage.name}: ended, but is not finished ({left}); see {run.stage_folder(stage.name).logs}")
    log.info("%s: finished in %.1f s", stage.name, time.monotonic() - started)
