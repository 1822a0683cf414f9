"""How a set was made, for its metadata: the code, and for each stage the hashes of its config and nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs import VERSION
from jobs.frame.products import PUBLISH, REPORT, SHARD
from jobs.frame.run import Run
from jobs.frame.summary import Summary
from shards.exports.facts import Activity, Code
from slurm.files import digest, read_json

MANY = 8  # nets of a stage, such as the adapters of thousands of identities, which get one hash together

WEIGHTS = ".safetensors"


def code_of(run: Run) -> Code:
    """The code of the last launch."""
    git = (read_json(run.folder.provenance) or {}).get("git", {})
    return Code(version=VERSION, commit=git.get("commit") or None, changed=bool(git.get("dirty")))


def activities_of(run: Run) -> list[Activity]:
    """What the finished stages did, in the order of the chain."""
    found = [(stage, run.ledger.summary(stage.name)) for stage in run.chain if stage.name not in (PUBLISH, REPORT)]
    return [
        Activity(
            name=stage.name,
            title=stage.title,
            config_sha256=digest(summary.fingerprint.get(stage.name, {})),
            given={} if stage.name == SHARD else _given(summary),
            nets=_nets(summary),
        )
        for stage, summary in found
        if summary is not None
    ]


def _given(summary: Summary) -> Mapping[str, str]:
    """Hashes of files from outside of the run, by the field that names them."""
    files: Mapping[str, str] = summary.fingerprint.get("files", {})
    return dict(files)


def _nets(summary: Summary) -> Mapping[str, str]:
    """Hashes of the nets that a stage trained."""
    nets = {output.name: output.sha256 for output in summary.outputs if output.name.endswith(WEIGHTS)}
    return nets if len(nets) <= MANY else {f"{len(nets)} nets": digest(_pairs(nets))}


def _pairs(nets: Mapping[str, str]) -> Sequence[Sequence[str]]:
    return [[name, nets[name]] for name in sorted(nets)]
