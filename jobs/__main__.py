"""The `cemiface` command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

from jobs.config import load_run
from jobs.entry import LOG_FORMAT
from jobs.export_set import export_set
from jobs.import_set import import_set
from jobs.launch import launch
from jobs.registry import SETS
from jobs.show import show_log, show_plan, show_status, verify
from jobs.stage import Run
from jobs.stages import STAGES
from jobs.user_errors import USER_ERRORS
from shards.exports import FORMATS

EXAMPLES = """examples:
  cemiface all configs/demo.yaml                       the whole chain on this machine; again: resumes
  cemiface all configs/demo.yaml generate.steps=10 name=steps10
  cemiface all configs/casia_0.5m.yaml --cluster configs/cluster/a100.yaml
  cemiface plan configs/demo.yaml                      what would run, without running it
  cemiface status configs/demo.yaml                    what is done, running, stale or failed
  cemiface logs configs/demo.yaml generate --rank 0    the end of a rank's log
  cemiface verify configs/demo.yaml                    rehash everything that was made
  cemiface import /media/disk/cemiface-0.5m            take over a published set, to train on it by name
  cemiface export cemiface-0.5m --as recordio --to rec

Resume is the same command again. Results are in runs/<name>/<stage>/; the page is runs/<name>/report/index.html."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and exit: 0 done, 1 not done or failed, 2 wrong usage or config, 130 interrupted."""
    parser = _parser()
    options, more = parser.parse_known_args(arguments)  # argparse takes no key=value behind an option by itself
    if any(text.startswith("-") for text in more):
        parser.error(f"unknown option: {' '.join(more)}")
    options.overrides += more
    os.umask(0o077)  # runs hold private faces
    _set_up_logging()
    if options.command in ("import", "export"):
        _pass_on(options)
    try:
        run = load_run(options.config, overrides=options.overrides, cluster=options.cluster)
    except USER_ERRORS as error:
        _fail(str(error), code=2)
    try:
        sys.exit(0 if _execute(options, run) else 1)
    except USER_ERRORS as error:
        _fail(str(error), code=1)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to go on", code=130)


def _pass_on(options: argparse.Namespace) -> None:
    """Import or export a set, which needs no config."""
    console = Console()
    try:
        if options.command == "import":
            whole = import_set(options.set, sets=options.sets, name=options.name, console=console)
            sys.exit(0 if whole else 1)
        export_set(options.set, form=options.form, target=options.to, sets=options.sets, console=console)
        sys.exit(0)
    except USER_ERRORS as error:
        _fail(str(error), code=1)


def _execute(options: argparse.Namespace, run: Run) -> bool:
    console = Console()
    if options.command == "plan":
        show_plan(run, console)
        return True
    if options.command == "status":
        run.recorded = True
        show_status(run, console)
        return True
    if options.command == "logs":
        show_log(run, stage=options.stage, rank=options.rank, lines=options.lines, console=console)
        return True
    if options.command == "verify":
        return verify(run, console)
    stages = run.chain if options.command == "all" else (STAGES[options.command],)
    if options.command != "all" and run.section(options.command) is None:
        _fail(f"{options.config}: has no section `{options.command}:`; add one", code=2)
    launch(run, stages)
    if options.command == "all" and run.cluster.executor == "local":
        show_status(run, console)
    return True


def _parser() -> argparse.ArgumentParser:
    raw = partial(argparse.RawDescriptionHelpFormatter, max_help_position=24, width=110)
    text = "Make, measure and publish synthetic face recognition sets, as resumable batch jobs."
    parser = argparse.ArgumentParser(prog="cemiface", description=text, epilog=EXAMPLES, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    launches = {"all": "the whole chain of the config"} | {name: stage.title for name, stage in STAGES.items()}
    reads = {
        "plan": "what would run: units, ranks, images (dry run)",
        "status": "what is done, running, stale or failed",
        "logs": "the end of the logs of a stage",
        "verify": "rehash every file the run has made",
    }
    for name, text in (launches | reads).items():
        example = f"example:\n  cemiface {name} configs/demo.yaml" + (" generate" if name == "logs" else "")
        command = commands.add_parser(name, help=text, description=text, epilog=example, formatter_class=raw)
        command.add_argument("config", type=Path, metavar="CONFIG", help="experiment file, e.g. configs/demo.yaml")
        if name == "logs":
            command.add_argument("stage", choices=STAGES, metavar="STAGE", help="one of: " + ", ".join(STAGES))
            command.add_argument("--rank", type=int, default=None, help="one rank only (default: all)")
            command.add_argument("--lines", type=_count, default=20, help="how many lines from the end (default: 20)")
        command.add_argument("--cluster", type=Path, metavar="FILE", help="cluster file (default: this machine)")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="config fields, e.g. generate.steps=10")
    _add_set_commands(commands, formatter=raw)
    return parser


def _add_set_commands(commands: Any, *, formatter: Any) -> None:
    """`import` and `export`, which are about sets and not about runs."""
    about = {
        "import": "check a published set and register it by name; again: goes on",
        "export": "write a published or imported set in another format",
    }
    examples = {
        "import": "cemiface import /media/disk/cemiface-0.5m",
        "export": "cemiface export cemiface-0.5m --as recordio --to exports/cemiface-0.5m",
    }
    for name, text in about.items():
        command = commands.add_parser(
            name, help=text, description=text, epilog=f"example:\n  {examples[name]}", formatter_class=formatter
        )
        command.add_argument("--sets", type=Path, default=Path(SETS), help="folder of imported sets (default: sets)")
        command.set_defaults(overrides=[])
        if name == "import":
            command.add_argument("set", type=Path, metavar="FOLDER", help="the copy of a published set")
            command.add_argument("--name", help="register under this name (default: the folder's)")
        else:
            command.add_argument("set", metavar="SET", help="folder of a published set, or name of an imported one")
            command.add_argument("--as", dest="form", required=True, choices=FORMATS, help="the format")
            command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, allowed: 1 or more")
    return int(text)


def _set_up_logging() -> None:
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(
            console=Console(stderr=True), show_path=False, show_level=False, log_time_format="%H:%M:%S"
        )
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    else:
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)


def _fail(message: str, *, code: int) -> None:
    print(f"cemiface: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
