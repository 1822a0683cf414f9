"""`cemiface import-generator`: convert an official StyleGAN pickle once, without executing anything in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jobs.frame.experiment_config import sentence
from shards.errors import DataError
from shards.privacy.lineage import MAX_TEXT, DataSet, lineage_text, plain, unknown_origin
from slurm.files import publish

NAME = "import-generator"
TEXT = "convert a StyleGAN2 or StyleGAN3 pickle to safetensors; nothing in it is executed"

EXAMPLES = """example:
  cemiface import-generator stylegan3-r-ffhq.pkl --to weights/ffhq.safetensors --trained-on FFHQ \\
    --license "Nvidia Source Code License" --origin https://catalog.ngc.nvidia.com"""


def add_import_generator_command(commands: Any, *, formatter: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        NAME, help=TEXT, description=sentence(TEXT), epilog=EXAMPLES, formatter_class=formatter
    )
    command.set_defaults(overrides=[], stage=None, rank=None)
    command.add_argument("pickle", type=Path, metavar="FILE", help="pickle of stylegan2-ada-pytorch or stylegan3")
    command.add_argument("--to", type=Path, required=True, metavar="FILE", help="a new file, NAME.safetensors")
    command.add_argument("--license", required=True, metavar="TEXT", help="license of the weights, as published")
    command.add_argument("--origin", required=True, metavar="TEXT", help="where the file is from, e.g. its address")
    text = "the faces that it was trained on, for the lineage of sets made with it (default: unknown)"
    command.add_argument("--trained-on", metavar="NAME", help=text)


def run_import_generator(options: argparse.Namespace) -> int:
    """Convert the file; returns 0.

    Raises:
        DataError: an option that cannot be, or the new file is already there.
        ModelError: the pickle is damaged, hostile or of another kind.
    """
    # Imported here as it imports torch, which would slow every other command down.
    from cemiface.gandiff.gan.stylegan.convert import converted

    if options.overrides:
        raise DataError(f"{NAME}: too many arguments: {' '.join(options.overrides)}; allowed: one file")
    if options.to.suffix != ".safetensors":
        raise DataError(f"--to: got {options.to}, allowed: NAME.safetensors")
    if options.to.exists():
        raise DataError(f"--to: {options.to} is already there; remove it or give another name")
    for name in ("license", "origin"):
        text = getattr(options, name)
        if not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
            raise DataError(f"--{name}: got {ascii(text)[:80]}, allowed: one line of at most {MAX_TEXT} characters")
    trained_on = plain(DataSet(name=options.trained_on)) if options.trained_on else unknown_origin(options.to.name)
    lineage = lineage_text([trained_on])
    data = converted(options.pickle, license=options.license, origin=options.origin, lineage=lineage)
    publish(options.to, data)
    print(f"{options.to}: {len(data)} bytes; license: {options.license}")
    return 0
