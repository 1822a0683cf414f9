"""`cemiface import` and `cemiface export`: commands for published sets. They need no config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.command.sets.export_fingerprints import export_fingerprints
from jobs.command.sets.export_set import export_set
from jobs.command.sets.import_set import import_set
from jobs.frame.experiment_config import sentence
from jobs.stages.shared.imported_sets import SETS
from shards.exports.formats import FORMATS

COMMANDS = {
    "import": "copy a published set here, check it and register it by name; rerun to resume",
    "export": "write a published or imported set in another format",
}

EXAMPLES = {
    "import": (
        "cemiface import /media/disk/cemiface-0.5m",
        "cemiface import /media/disk/cemiface-0.5m --name other-name",
        "cemiface import /media/disk/cemiface-0.5m --signer their_key.pub",
    ),
    "export": (
        "cemiface export cemiface-0.5m --as recordio --to exports/cemiface-0.5m",
        "cemiface export runs/demo/publish/cemiface-demo --as folders --to exports/demo",
        "cemiface export runs/demo --fingerprints --to exports/demo-fingerprints",
    ),
}


SIGNER = "public key, or allowed_signers file, of the publisher; a set that is not signed by them is refused"


def add_set_commands(commands: Any, *, formatter: Any) -> None:
    """Add the two commands to the parser."""
    for name, text in COMMANDS.items():
        epilog = "\n  ".join(("examples:", *EXAMPLES[name]))
        title = sentence(text)
        command = commands.add_parser(name, help=text, description=title, epilog=epilog, formatter_class=formatter)
        command.add_argument("--sets", type=Path, default=Path(SETS), help="folder of imported sets (default: sets)")
        command.set_defaults(overrides=[], stage=None, rank=None)
        if name == "import":
            command.add_argument("set", type=Path, metavar="FOLDER", help="folder of a published set")
            command.add_argument("--name", help="register under this name (default: the folder's)")
            command.add_argument("--signer", type=Path, metavar="FILE", help=SIGNER)
        else:
            what = "folder of a published set, or name of an imported one; with --fingerprints: folder of a run"
            command.add_argument("set", metavar="SET", help=what)
            form = command.add_mutually_exclusive_group(required=True)
            form.add_argument("--as", dest="form", choices=FORMATS, help="the format")
            text = "write the fingerprints of the run's real faces, for the audits of others (docs/privacy.md)"
            form.add_argument("--fingerprints", action="store_true", help=text)
            command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")


def run_set_command(options: argparse.Namespace) -> int:
    """Run the command; returns 0, or 1 if a file of the set is missing or damaged."""
    console = Console()
    if options.command == "import":
        whole = import_set(options.set, sets=options.sets, name=options.name, console=console, signer=options.signer)
        return 0 if whole else 1
    if options.fingerprints:
        export_fingerprints(Path(options.set), target=options.to, console=console)
        return 0
    export_set(options.set, form=options.form, target=options.to, sets=options.sets, console=console)
    return 0
