"""`cemiface withdraw`: finds the synthetic people who resemble a person, and takes them out of the next version."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.frame.errors import ConfigError
from jobs.frame.ledger import again
from jobs.frame.products import PUBLISH, SETTLE
from jobs.frame.run import Run
from jobs.frame.verdicts import reference_files, verdict_of
from jobs.stages.settle.withdrawn import path_of, withdraw, withdrawn_people
from shards.errors import DataError
from shards.privacy.fingerprints import embedder_and_width, read_vectors
from shards.small_files import read_whole
from slurm.errors import RunError

if TYPE_CHECKING:
    from jobs.stages.shared.gate.resemblance import Resemblance

SHOWN = 5  # people, if fewer are near

MAX_PICTURE = 2**26  # bytes


def add_withdraw_arguments(command: argparse.ArgumentParser) -> None:
    """Add the command's own arguments to its parser."""
    query = command.add_mutually_exclusive_group(required=True)
    query.add_argument(
        "--picture", type=Path, metavar="FILE", help="a picture of the person's face, as `shard` takes them"
    )
    text = "or their fingerprint by the audit's net: a file of `cemiface export --fingerprints`"
    query.add_argument("--fingerprint", type=Path, metavar="FILE", help=text)
    text = "withdraw the people at or above the audit's threshold (default: only show them)"
    command.add_argument("--apply", action="store_true", help=text)


def run_withdraw(run: Run, options: argparse.Namespace, console: Console) -> int:
    """Show who resembles the person, and withdraw them if asked to; returns 0.

    Raises:
        ConfigError: the run has no settled set to publish.
        DataError: the picture or fingerprint cannot be used.
        RunError: the set is not settled yet.
    """
    if not run.includes(SETTLE):
        raise ConfigError("withdraw: the config has no section `settle:`; add one, as for a set that is published")
    if run.ledger.summary(SETTLE) is None:
        raise RunError(f"withdraw: there is no settled set yet; {again(SETTLE)}, then ask")
    found = _resembling(run, options)
    near = [one for one in found if one.near]
    thresholds = verdict_of(run).thresholds
    console.print(
        f"nearest synthetic people, by the audit's net; it takes two faces for one person from a cosine of "
        f"{thresholds.image_to_face:.4f}, and the mean of a person's images from {thresholds.identity_to_face:.4f}:",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for one in [*near, *(each for each in found if not each.near)][: max(SHOWN, len(near))]:
        verdict = "near" if one.near else "below"
        text = f"  {one.identity}  image {one.key}: {one.cosine:.4f}  mean: {one.mean_cosine:.4f}  {verdict}"
        console.print(text, highlight=False, soft_wrap=True)
    gone = withdrawn_people(run)
    if gone:
        console.print(f"withdrawn before: {len(gone)}, which are not in the set any more", highlight=False)
    console.print(_outcome(run, near, apply=options.apply), highlight=False, soft_wrap=True)
    return 0


def _outcome(run: Run, near: list[Resemblance], *, apply: bool) -> str:
    if not near:
        return "nobody in the set is near; nothing was changed"
    people = f"{len(near)} synthetic {'person is' if len(near) == 1 else 'people are'} near"
    if not apply:
        return f"{people}; nothing was changed; --apply withdraws them"
    withdraw(run, [one.identity for one in near])
    then = f"`cemiface settle`{' and `cemiface publish` make' if run.includes(PUBLISH) else ' makes'} the next version"
    return f"{people} and withdrawn, as {path_of(run)} says; {then}"


def _resembling(run: Run, options: argparse.Namespace) -> list[Resemblance]:
    # Imported here as it imports torch, which would slow every other command down.
    from jobs.stages.shared.gate.resemblance import resembling

    path = options.picture or options.fingerprint
    if not path.is_file():
        raise DataError(f"--{'picture' if options.picture else 'fingerprint'}: got {path}, no such file")
    if options.fingerprint:
        (net, _), (own, _) = embedder_and_width(path), embedder_and_width(reference_files(run)[0])
        if net != own:
            raise DataError(f"--fingerprint: {path} is by the net {net}; allowed: by the audit's net, {own}")
        return resembling(run, read_vectors(path).features)
    return resembling(run, read_whole(path, limit=MAX_PICTURE))
