"""`cemiface import` and `cemiface export`: about published sets, not about runs, so they need no config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.command.sets.export_set import export_set
from jobs.command.sets.import_set import import_set
from jobs.stages.shared.imported_sets import SETS
from shards.exports.formats import FORMATS

COMMANDS = {
    "import": "check a published set and register it by name; again: goes on",
    "export": "write a published or imported set in another format",
}

EXAMPLES = {
    "import": "cemiface import /media/disk/cemiface-0.5m",
    "export": "cemiface export cemiface-0.5m --as recordio --to exports/cemiface-0.5m",
}


def add_set_commands(commands: Any, *, formatter: Any) -> None:
    """Give the command line's parser its two commands."""
    for name, text in COMMANDS.items():
        epilog = f"example:\n  {EXAMPLES[name]}"
        command = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=formatter)
        command.add_argument("--sets", type=Path, default=Path(SETS), help="folder of imported sets (default: sets)")
        command.set_defaults(overrides=[], stage=None, rank=None)
        if name == "import":
            command.add_argument("set", type=Path, metavar="FOLDER", help="the copy of a published set")
            command.add_argument("--name", help="register under this name (default: the folder's)")
        else:
            command.add_argument("set", metavar="SET", help="folder of a published set, or name of an imported one")
            command.add_argument("--as", dest="form", required=True, choices=FORMATS, help="the format")
            command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")


def run_set_command(options: argparse.Namespace) -> int:
    """Do it; 0 if all is well, 1 if a file of the set is missing or damaged."""
    console = Console()
    if options.command == "import":
        whole = import_set(options.set, sets=options.sets, name=options.name, console=console)
        return 0 if whole else 1
    export_set(options.set, form=options.form, target=options.to, sets=options.sets, console=console)
    return 0
