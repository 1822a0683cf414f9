"""The `cemiface` command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from jobs.command.cancel import cancel
from jobs.command.demo import add_demo_command, set_up_demo
from jobs.command.info import show_info
from jobs.command.invocation import Invocation
from jobs.command.logs import show_log
from jobs.command.plan import show_plan
from jobs.command.reference.explain import NAME as EXPLAIN
from jobs.command.reference.explain import add_explain_command, run_explain
from jobs.command.run_rank import run_rank
from jobs.command.sets.set_commands import COMMANDS, add_set_commands, run_set_command
from jobs.command.status import show_status, watch_status
from jobs.command.verify import verify
from jobs.command.why import show_why
from jobs.frame.errors import USER_ERRORS
from jobs.frame.experiment import load_run
from jobs.frame.methods import BUILT_IN, find_method
from jobs.frame.run import Run
from jobs.launch.entry import LOG_FORMAT
from jobs.launch.launch import launch

EXAMPLES = """examples:
  cemiface demo                                        the whole chain on public faces, in the current folder
  cemiface all configs/demo.yaml                       the whole chain on this machine; again: resumes
  cemiface all configs/demo.yaml generate.steps=10 name=steps10
  cemiface all configs/casia_0.5m.yaml --cluster configs/cluster/a100.yaml
  cemiface plan configs/demo.yaml                      what would run, without running it
  cemiface info configs/casia_0.5m.yaml --json         what the config means, in numbers
  cemiface explain generate.eta                        what a config field means; also: a section, or nothing
  cemiface status configs/demo.yaml --watch            what is done, running, queued, stale, failed or lost, live
  cemiface why configs/demo.yaml                       the first cause of trouble, and what to type
  cemiface logs configs/demo.yaml generate 0           the end of a rank's log
  cemiface cancel configs/demo.yaml                    stop what is at work; it saves its work
  cemiface verify configs/demo.yaml                    rehash everything that was made
  cemiface import /media/disk/cemiface-0.5m            take over a published set, to train on it by name
  cemiface export cemiface-0.5m --as recordio --to rec insightface's format; also: folders, huggingface

Resume is the same command again. Results are in runs/<name>/<stage>/; the page is runs/<name>/report/index.html."""

# The stages of all built-in methods: commands of their own.
STAGES = {name: stage for method in BUILT_IN for name, stage in find_method(method).chain.items()}
# What people ask of a run, with what it takes besides the config.
TOOLS = {
    "plan": ("", "what would run: job scripts, ranks, images, hours (dry run; needs no Slurm)"),
    "info": ("", "what the config means: sizes and costs of the nets, images, shards"),
    "status": ("", "what is done, running, queued, stale, failed or lost; what to type next"),
    "why": ("[STAGE [RANK]]", "why a stage or rank failed, its last words, and the command that reruns it here"),
    "logs": ("STAGE [RANK]", "the end of the logs of a stage"),
    "cancel": ("[STAGE]", "end the jobs of a stage, or of the run; they save their work"),
    "run-rank": ("STAGE RANK", "one rank of a stage in the foreground, as it was last launched"),
    "verify": ("", "rehash every file the run has made"),
}

# Commands that need no config, and their exit code when the user's input is wrong.
WITHOUT_CONFIG = {**dict.fromkeys(COMMANDS, (run_set_command, 1)), EXPLAIN: (run_explain, 2)}

STATUS_CODES = """
exit code: 0 all is done; 1 a rank failed or is lost; 2 wrong usage; 3 at work (running or queued);
           4 something is left to do and nobody is at work on it"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and exit: 0 done, 1 not done or failed, 2 wrong usage or config, 130 interrupted."""
    parser = _parser()
    options, more = parser.parse_known_args(arguments)  # argparse takes no key=value behind an option by itself
    if any(text.startswith("-") for text in more):
        parser.error(f"unknown option: {' '.join(more)}")
    options.overrides += more
    if options.command not in WITHOUT_CONFIG:
        _take_stage_and_rank(options, parser)
    os.umask(0o077)  # runs hold private faces
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
        sys.exit(_launch(options, run) if options.command not in TOOLS else _execute(options, run))
    except USER_ERRORS as error:
        _fail(str(error), code=1)
    except KeyboardInterrupt:
        _fail(_interrupted(options.command), code=130)


def _become_all(options: argparse.Namespace) -> None:
    """`demo` is `all` on a config that it puts there."""
    try:
        options.config = set_up_demo(options.method, overrides=options.overrides)
    except USER_ERRORS as error:
        _fail(str(error), code=1)
    except KeyboardInterrupt:
        _fail(_interrupted("demo"), code=130)
    options.command = "all"


def _launch(options: argparse.Namespace, run: Run) -> int:
    stages = run.chain if options.command == "all" else (run.stages[options.command],)
    if options.command != "all" and not run.asks_for(options.command):
        _fail(f"{options.config}: has no section `{options.command}:`; add one", code=2)
    launch(run, stages)
    if options.command == "all" and run.cluster.executor == "local":
        show_status(run, Console(), invocation=_invocation(options, run))
    return 0


def _execute(options: argparse.Namespace, run: Run) -> int:
    console = Console()
    if options.command == "plan":
        show_plan(run, run.chain, console)
        return 0
    if options.command == "info":
        show_info(run, console, as_json=options.json)
        return 0
    if options.command == "verify":
        return 0 if verify(run, console) else 1
    run.ledger.recorded = True
    if options.stage is not None and not run.asks_for(options.stage):
        _fail(f"{options.config}: the stage {options.stage} is not part of this run", code=2)
    if options.command == "status":
        invocation = _invocation(options, run)
        if options.watch:
            return watch_status(run, console, invocation=invocation)
        return show_status(run, console, invocation=invocation, as_json=options.json)
    if options.command == "why":
        show_why(run, stage=options.stage, rank=options.rank, invocation=_invocation(options, run), console=console)
    elif options.command == "logs":
        show_log(run, stage=options.stage, rank=options.rank, lines=options.lines, console=console)
    elif options.command == "cancel":
        cancel(run, stage=options.stage, console=console)
    else:
        run_rank(run, run.stages[options.stage], rank=options.rank)
    return 0


def _invocation(options: argparse.Namespace, run: Run) -> Invocation:
    return Invocation.of(run, config=options.config, cluster=options.cluster, overrides=tuple(options.overrides))


def _take_stage_and_rank(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Sort out STAGE and RANK from among the `key=value`, in any order."""
    options.stage = None
    rank = vars(options).setdefault("rank", None)
    takes = TOOLS[options.command][0] if options.command in TOOLS else ""
    overrides = []
    for word in options.overrides:
        if "=" in word or not takes:
            overrides.append(word)
        elif options.stage is None and not word.isdecimal():
            options.stage = word
        elif rank is None and word.isdecimal() and "RANK" in takes:
            rank = int(word)
        else:
            parser.error(f"{options.command} {word}: got too much, allowed: {takes} key=value ...")
    if options.stage is not None and options.stage not in STAGES:
        parser.error(f"STAGE: invalid choice {options.stage!r}, allowed: {', '.join(STAGES)}")
    lacks_stage = options.stage is None and (takes.startswith("STAGE") or rank is not None)
    if lacks_stage or (rank is None and takes.endswith(" RANK")):
        parser.error(f"{options.command}: needs {takes}")
    options.rank, options.overrides = rank, overrides


def _interrupted(command: str) -> str:
    return "interrupted" if command in TOOLS else "interrupted; run the same command again to go on"


def _parser() -> argparse.ArgumentParser:
    raw = partial(argparse.RawDescriptionHelpFormatter, max_help_position=24, width=110)
    text = "Make, measure and publish synthetic face recognition sets, as resumable batch jobs."
    parser = argparse.ArgumentParser(prog="cemiface", description=text, epilog=EXAMPLES, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    launches = {"all": "the whole chain of the config"} | {name: stage.title for name, stage in STAGES.items()}
    for name, text in (launches | {tool: text for tool, (_, text) in TOOLS.items()}).items():
        takes = TOOLS[name][0] if name in TOOLS else ""
        more = {"": "", "[STAGE [RANK]]": " generate 0", "[STAGE]": " generate"}.get(takes, " generate 0")
        example = f"example:\n  cemiface {name} configs/demo.yaml{more}"
        epilog = example + (STATUS_CODES if name == "status" else "")
        command = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=raw)
        command.add_argument("config", type=Path, metavar="CONFIG", help="experiment file, e.g. configs/demo.yaml")
        if "RANK" in takes:
            command.add_argument("--rank", type=_rank, default=None, metavar="RANK", help="the same as RANK")
        if name == "logs":
            command.add_argument("--lines", type=_count, default=20, help="how many lines from the end (default: 20)")
        if name == "status":
            command.add_argument("--watch", action="store_true", help="live, until nobody is at work any more")
        if name in {"status", "info"}:
            text = "everything, every rank, for scripts" if name == "status" else "for scripts"
            command.add_argument("--json", action="store_true", help=text)
        command.add_argument("--cluster", type=Path, metavar="FILE", help="cluster file (default: this machine)")
        words = f"{takes} key=value".strip()
        told = f"STAGE is one of: {', '.join(STAGES)}; " if takes else ""
        told += "config fields, e.g. generate.steps=10"
        command.add_argument("overrides", nargs="*", metavar=words, help=told)
    add_demo_command(commands, formatter=raw)
    add_set_commands(commands, formatter=raw)
    add_explain_command(commands, formatter=raw)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, allowed: 1 or more")
    return int(text)


def _rank(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}, allowed: 0 or more")
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
