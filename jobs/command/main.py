"""The `cemiface` command: which function a command line calls, and the exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console
from rich.logging import RichHandler

from jobs.command.cancel import cancel
from jobs.command.demo import set_up_demo
from jobs.command.info import show_info
from jobs.command.invocation import Invocation
from jobs.command.logs import show_log
from jobs.command.parser import parse
from jobs.command.plan import show_plan
from jobs.command.reference.explain import NAME as EXPLAIN
from jobs.command.reference.explain import run_explain
from jobs.command.run_rank import run_rank
from jobs.command.runs.compare import NAME as COMPARE
from jobs.command.runs.compare import run_compare
from jobs.command.sets.import_generator import NAME as IMPORT_GENERATOR
from jobs.command.sets.import_generator import run_import_generator
from jobs.command.sets.set_commands import COMMANDS, run_set_command
from jobs.command.sets.withdraw import run_withdraw
from jobs.command.status import show_status, watch_status
from jobs.command.verbs import TOOLS
from jobs.command.verify import verify
from jobs.command.why import show_why
from jobs.frame.errors import USER_ERRORS
from jobs.frame.experiment import load_run
from jobs.frame.run import Run
from jobs.launch.entry import LOG_FORMAT
from jobs.launch.launch import launch
from slurm.disk import told_fault
from slurm.ranks.worker import leave_allocation

# Commands that need no config, and their exit code for wrong input.
WITHOUT_CONFIG = {**dict.fromkeys(COMMANDS, (run_set_command, 1)), EXPLAIN: (run_explain, 2)}
WITHOUT_CONFIG |= {IMPORT_GENERATOR: (run_import_generator, 1), COMPARE: (run_compare, 2)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and exit: 0 done, 1 not done or failed, 2 wrong usage or config, 130 interrupted."""
    options = parse(arguments)
    os.umask(0o077)  # runs hold private faces
    leave_allocation()  # this command is no rank of a job, wherever it was started
    _set_up_logging()
    if options.command in WITHOUT_CONFIG:
        execute, code = WITHOUT_CONFIG[options.command]
        try:
            sys.exit(execute(options))
        except USER_ERRORS as error:
            _fail(str(error), code=code)
    if options.command == "demo":
        _become_all(options)
    try:
        run = load_run(options.config, overrides=options.overrides, cluster=options.cluster)
    except USER_ERRORS as error:
        _fail(str(error), code=2)
    try:
        sys.exit(_run_tool(options, run) if options.command in TOOLS else _launch(options, run))
    except USER_ERRORS as error:
        _fail(str(error), code=1)
    except OSError as error:
        fault = told_fault(error, folder=run.folder.root)
        if fault is None:
            raise
        _fail(str(fault), code=1)
    except KeyboardInterrupt:
        _fail(_interrupted(options.command), code=130)


def _become_all(options: argparse.Namespace) -> None:
    """Turn `demo` into `all` with the demo's config, which is put into the current folder."""
    try:
        options.config = set_up_demo(options.method, overrides=options.overrides)
    except USER_ERRORS as error:
        _fail(str(error), code=1)
    except KeyboardInterrupt:
        _fail(_interrupted("demo"), code=130)
    options.command = "all"


def _launch(options: argparse.Namespace, run: Run) -> int:
    """Run one stage or all; returns the exit code."""
    if options.command == "all":
        launch(run, run.chain)
        if run.cluster.executor == "local":
            show_status(run, Console(), invocation=_invocation(options, run))
        return 0
    if not run.includes(options.command):
        _fail(f"{options.config}: has no section `{options.command}:`; add one", code=2)
    launch(run, (run.stages[options.command],))
    return 0


def _run_tool(options: argparse.Namespace, run: Run) -> int:
    """Run a command that starts no stage; returns the exit code."""
    console = Console()
    run.ledger.recorded = options.command not in {"plan", "info", "verify"}
    if options.stage is not None and not run.includes(options.stage):
        _fail(f"{options.config}: the stage {options.stage} is not part of this run", code=2)
    match options.command:
        case "plan":
            return show_plan(run, run.chain, console)
        case "info":
            show_info(run, console, as_json=options.json)
        case "withdraw":
            return run_withdraw(run, options, console)
        case "verify":
            return 0 if verify(run, console, signer=options.signer) else 1
        case "status" if options.watch:
            return watch_status(run, console, invocation=_invocation(options, run))
        case "status":
            return show_status(run, console, invocation=_invocation(options, run), as_json=options.json)
        case "why":
            invocation = _invocation(options, run)
            show_why(run, stage=options.stage, rank=options.rank, invocation=invocation, console=console)
        case "logs":
            show_log(run, stage=options.stage, rank=options.rank, lines=options.lines, console=console)
        case "cancel":
            cancel(run, stage=options.stage, console=console)
        case "run-rank":
            run_rank(run, run.stages[options.stage], rank=options.rank)
    return 0


def _invocation(options: argparse.Namespace, run: Run) -> Invocation:
    return Invocation.of(run, config=options.config, cluster=options.cluster, overrides=tuple(options.overrides))


def _interrupted(command: str) -> str:
    return "interrupted" if command in TOOLS else "interrupted; rerun the same command to resume"


def _set_up_logging() -> None:
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(
            console=Console(stderr=True), show_path=False, show_level=False, log_time_format="%H:%M:%S"
        )
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    else:
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)


def _fail(message: str, *, code: int) -> NoReturn:
    print(f"cemiface: {message}", file=sys.stderr)
    sys.exit(code)
