"""`cemiface demo`: the whole chain on public faces, in the current folder, from files that come with the package.

`demo_files` holds what the demo needs, laid out as in a checkout. Its entries are links into the checkout, so that
git holds each file once; a wheel holds the files themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command.fetch_demo_faces import fetch_demo_faces
from jobs.frame.methods import BUILT_IN, DEFAULT
from slurm.files import publish

FILES = Path(__file__).parent / "demo_files"
FACES = "data/orl"  # as the demo's config names them
TITLE = "the whole chain on 400 real faces, in the current folder, on this machine; rerun to resume"
EXAMPLES = """examples:
  cemiface demo
  cemiface demo generate.steps=10 name=steps10
  cemiface demo shard.faces=/data/my_faces             other faces: folders of people, with images in them

It puts its config, its nets and the faces into the current folder, and leaves those that are there as they are."""

log = logging.getLogger(__name__)


def add_demo_command(commands: Any, *, formatter: Any) -> None:
    """Give the command line's parser its command."""
    command = commands.add_parser("demo", help=TITLE, description=TITLE, epilog=EXAMPLES, formatter_class=formatter)
    demos = [method for method in BUILT_IN if (FILES / demo_config(method)).exists()]
    command.add_argument("--method", choices=demos, default=DEFAULT, help=f"whose demo (default: {DEFAULT})")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="config fields, e.g. generate.steps=10")
    command.set_defaults(cluster=None)


def demo_config(method: str) -> Path:
    """The config file of a method's demo, relative to the folder it runs in."""
    return Path("configs") / ("demo.yaml" if method == DEFAULT else f"demo_{method}.yaml")


def set_up_demo(method: str, *, overrides: Sequence[str]) -> Path:
    """Put what the demo needs and the current folder does not have there; returns the config.

    The faces are fetched unless an override names others.

    Raises:
        RunError: the faces could not be fetched, or a file not be written.
    """
    others = {demo_config(name) for name in BUILT_IN if name != method}
    for source in sorted(path for path in FILES.rglob("*") if path.is_file()):
        target = source.relative_to(FILES)
        if target in others or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(target, source.read_bytes())
        log.info("%s: written", target)
    if not any(text.startswith("shard.faces=") for text in overrides):
        fetch_demo_faces(Path(FACES))
    return demo_config(method)
