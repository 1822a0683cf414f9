"""The command line of `cemiface`, parsed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jobs.command.demo import add_demo_command
from jobs.command.reference.explain import add_explain_command
from jobs.command.runs.compare import add_compare_command
from jobs.command.sets.import_generator import add_import_generator_command
from jobs.command.sets.set_commands import SIGNER, add_set_commands
from jobs.command.sets.withdraw import add_withdraw_arguments
from jobs.command.verbs import STAGES, VERBS, Verb
from jobs.frame.experiment_config import sentence

EXAMPLES = """examples:
  cemiface demo                                        all stages on public faces, in the current folder
  cemiface all configs/demo.yaml                       all stages on this machine; rerun to resume
  cemiface all configs/demo.yaml generate.steps=10 name=steps10
  cemiface all configs/casia_0.5m.yaml --cluster configs/cluster/a100.yaml
  cemiface plan configs/demo.yaml                      what would run, without running it
  cemiface info configs/casia_0.5m.yaml --json         what the config means, in numbers
  cemiface explain generate.eta                        what a config field means
  cemiface status configs/demo.yaml --watch            what is done, running, queued, stale, failed or lost, live
  cemiface why configs/demo.yaml                       the first cause of a failure, and the command to run next
  cemiface logs configs/demo.yaml generate 0           the end of a rank's log
  cemiface cancel configs/demo.yaml                    stop all ranks after saving their work
  cemiface compare runs/demo runs/steps10              config, figures and costs of several runs side by side
  cemiface verify configs/demo.yaml                    rehash every file that the finished stages made
  cemiface withdraw configs/lfw.yaml --picture a.jpg   who in the set resembles a person; --apply takes them out
  cemiface import /media/disk/cemiface-0.5m            copy a published set here, to train on it by name
  cemiface export cemiface-0.5m --as recordio --to rec convert a set to the format of insightface

To resume, rerun the same command. Results are in runs/<name>/<stage>/; the report is runs/<name>/report/index.html."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line; exits with code 2 and a message if it is wrong.

    Every command gets `command` and `overrides`; those of `VERBS` also `config`, `cluster`, `stage` and `rank`.
    """
    parser = _parser()
    options, more = parser.parse_known_args(arguments)  # argparse itself accepts no key=value after an option
    if any(text.startswith("-") for text in more):
        parser.error(f"unknown option: {' '.join(more)}")
    options.overrides += more
    if options.command in VERBS or options.command == "demo":
        _take_stage_and_rank(options, parser)
    return options


def _take_stage_and_rank(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Separate STAGE and RANK from the `key=value` arguments, in any order."""
    options.stage = None
    rank = vars(options).setdefault("rank", None)
    takes = VERBS[options.command].takes if options.command in VERBS else ""
    overrides = []
    for word in options.overrides:
        if "=" in word or not takes:
            overrides.append(word)
        elif options.stage is None and not word.isdecimal():
            options.stage = word
        elif rank is None and word.isdecimal() and "RANK" in takes:
            rank = int(word)
        else:
            parser.error(f"{options.command} {word}: too many arguments, allowed: {takes} key=value ...")
    if options.stage is not None and options.stage not in STAGES:
        parser.error(f"STAGE: invalid choice {options.stage!r}, allowed: {', '.join(STAGES)}")
    no_stage = options.stage is None and (takes.startswith("STAGE") or rank is not None)
    if no_stage or (rank is None and takes.endswith(" RANK")):
        parser.error(f"{options.command}: needs {takes}")
    options.rank, options.overrides = rank, overrides


def _parser() -> argparse.ArgumentParser:
    raw = partial(argparse.RawDescriptionHelpFormatter, max_help_position=24, width=110)
    text = "Make, measure and publish synthetic face recognition sets, as resumable batch jobs."
    parser = argparse.ArgumentParser(prog="cemiface", description=text, epilog=EXAMPLES, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, verb in VERBS.items():
        lines = "\n".join(f"  cemiface {name} {example}" for example in verb.examples)
        epilog = f"example{'s' if len(verb.examples) > 1 else ''}:\n{lines}\n{verb.notes}"
        command = commands.add_parser(
            name, help=verb.help, description=sentence(verb.help), epilog=epilog, formatter_class=raw
        )
        _add_arguments(command, name, verb)
    add_demo_command(commands, formatter=raw)
    add_set_commands(commands, formatter=raw)
    add_import_generator_command(commands, formatter=raw)
    add_compare_command(commands, formatter=raw)
    add_explain_command(commands, formatter=raw)
    return parser


def _add_arguments(command: argparse.ArgumentParser, name: str, verb: Verb) -> None:
    command.add_argument("config", type=Path, metavar="CONFIG", help="experiment file, e.g. configs/demo.yaml")
    if "RANK" in verb.takes:
        command.add_argument("--rank", type=_rank, default=None, metavar="RANK", help="same as RANK")
    if name == "logs":
        command.add_argument("--lines", type=_count, default=20, help="how many lines from the end (default: 20)")
    if name == "status":
        command.add_argument("--watch", action="store_true", help="live, until no rank is running or queued")
    if name in {"status", "info"}:
        text = "everything about every rank, for scripts" if name == "status" else "for scripts"
        command.add_argument("--json", action="store_true", help=text)
    if name == "withdraw":
        add_withdraw_arguments(command)
    if name == "verify":
        command.add_argument("--signer", type=Path, metavar="FILE", help=SIGNER)
    command.add_argument("--cluster", type=Path, metavar="FILE", help="cluster file (default: this machine)")
    text = "overrides of config fields, e.g. generate.steps=10"
    if verb.takes:
        text = f"STAGE is one of: {', '.join(STAGES)}; {text}"
    command.add_argument("overrides", nargs="*", metavar=f"{verb.takes} key=value".strip(), help=text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, allowed: 1 or more")
    return int(text)


def _rank(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}, allowed: 0 or more")
    return int(text)
