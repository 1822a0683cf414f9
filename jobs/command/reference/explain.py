"""`cemiface explain`: the meaning of a field, a section or all fields of a config file. Needs no config file."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.command.reference.fields import CLUSTER, REQUIRED, Entry, Reference, reference
from jobs.command.reference.page import config_page
from jobs.command.reference.schema import cluster_schema, experiment_schema, for_editors
from jobs.frame.errors import ConfigError
from jobs.frame.experiment_config import sentence
from jobs.frame.methods import DEFAULT

NAME = "explain"
TEXT = "explain a field of the config or cluster file: type, range, default, source, cost"

EXAMPLES = """examples:
  cemiface explain                       the sections of an experiment file
  cemiface explain generate              all fields of a section
  cemiface explain generate.eta          one field
  cemiface explain cluster.array.gpus    one field of the cluster file
  cemiface explain --schema              the JSON schema of the experiment file, for editors"""


def add_explain_command(commands: Any, *, formatter: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        NAME, help=TEXT, description=sentence(TEXT), epilog=EXAMPLES, formatter_class=formatter
    )
    command.set_defaults(overrides=[], stage=None, rank=None)
    command.add_argument("field", nargs="?", metavar="FIELD", help="a section or a field (default: the list)")
    command.add_argument("--method", default=DEFAULT, metavar="NAME", help=f"the method (default: {DEFAULT})")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--schema", action="store_true", help="a JSON schema; with FIELD cluster: of the cluster file")
    form.add_argument("--markdown", action="store_true", help="the reference page of all fields")


def run_explain(options: argparse.Namespace) -> int:
    """Print the explanation, schema or page; returns 0.

    Raises:
        ConfigError: there is no such field or method, or more than one field was given.
    """
    if options.overrides:
        raise ConfigError(f"explain: too many arguments: {' '.join(options.overrides)}; allowed: one field")
    if options.schema:
        schema = cluster_schema() if options.field == CLUSTER else experiment_schema(options.method)
        sys.stdout.write(json.dumps(for_editors(schema), indent=1, ensure_ascii=False) + "\n")
    elif options.markdown:
        sys.stdout.write(config_page(reference(options.method), method=options.method))
    else:
        show(reference(options.method), options.field, console=Console())
    return 0


def show(fields: Reference, path: str | None, *, console: Console) -> None:
    """Print the list of sections, a section with all its fields, or one field.

    Raises:
        ConfigError: there is no such field.
    """
    if path is None:
        _show_table(fields.top(), console)
        console.print("\nAll fields of a section: cemiface explain NAME; one field: cemiface explain NAME.FIELD")
        return
    entry = fields.find(path)
    _show_entry(entry, console)
    if inside := fields.inside(entry):
        console.print()
        _show_table(inside, console, below=entry)


def _show_entry(entry: Entry, console: Console) -> None:
    facts = f"{_type(entry)}; {REQUIRED if entry.default == REQUIRED else f'default: {entry.default}'}"
    console.print(f"[bold]{entry.path}[/bold]: {escape(facts)}", highlight=False)
    console.print(entry.description, markup=False, highlight=False)
    if entry.effect:
        console.print(entry.effect, style="dim", highlight=False)


def _show_table(entries: list[Entry], console: Console, *, below: Entry | None = None) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("field", "type", "default", "what it is"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "field")  # names can be copied
    for entry in entries:
        path = entry.path.removeprefix(f"{below.path}.") if below else entry.path
        table.add_row(*map(escape, (path, _type(entry), entry.default, entry.description)))
    console.print(table, highlight=False)


def _type(entry: Entry) -> str:
    return f"{entry.type}, {entry.allowed}" if entry.allowed else entry.type
