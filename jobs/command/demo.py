"""`cemiface demo`: all stages on public faces, in the current folder, from files of the package.

`demo_files` has the layout of a checkout. Its entries are links into the checkout, so that each file is in git only
once. A wheel has the files themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command.fetch_demo_faces import fetch_demo_faces
from jobs.frame.experiment_config import sentence
from jobs.frame.methods import BUILT_IN, DEFAULT
from slurm.files import publish

FILES = Path(__file__).parent / "demo_files"
FACES = "data/orl"  # as the demo's config names them
TITLE = "run all stages on 400 public faces, in the current folder, on this machine; rerun to resume"
EXAMPLES = """examples:
  cemiface demo
  cemiface demo --method gandiffface                   identities by a GAN, pictures by a base tuned for each
  cemiface demo generate.steps=10 name=steps10
  cemiface demo shard.faces=/data/my_faces             your faces: a folder per person, with images

The config, the nets and the faces are put into the current folder. Files that exist are not changed."""

log = logging.getLogger(__name__)


def add_demo_command(commands: Any, *, formatter: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "demo", help=TITLE, description=sentence(TITLE), epilog=EXAMPLES, formatter_class=formatter
    )
    demos = [method for method in BUILT_IN if (FILES / demo_config(method)).exists()]
    command.add_argument("--method", choices=demos, default=DEFAULT, help=f"the method (default: {DEFAULT})")
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides of config fields, e.g. generate.steps=10"
    )
    command.set_defaults(cluster=None)


def demo_config(method: str) -> Path:
    """The config of a method's demo, relative to the current folder."""
    return Path("configs") / ("demo.yaml" if method == DEFAULT else f"demo_{method}.yaml")


def demo_files(method: str) -> list[Path]:
    """The files of a method's demo, relative to the current folder: its config, the nets it names, and the rest."""
    config = demo_config(method)
    text = (FILES / config).read_text(encoding="utf-8")
    files = sorted(path.relative_to(FILES) for path in FILES.rglob("*") if path.is_file())
    others = {demo_config(name) for name in BUILT_IN} - {config}
    return [path for path in files if path not in others and (path.suffix != ".safetensors" or str(path) in text)]


def set_up_demo(method: str, *, overrides: Sequence[str]) -> Path:
    """Put the files of the demo that are missing into the current folder; returns the config.

    The faces are downloaded unless an override gives others.

    Raises:
        RunError: the faces could not be downloaded, or a file could not be written.
    """
    for target in demo_files(method):
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(target, (FILES / target).read_bytes())
        log.info("%s: written", target)
    if not any(text.startswith("shard.faces=") for text in overrides):
        fetch_demo_faces(Path(FACES))
    return demo_config(method)
