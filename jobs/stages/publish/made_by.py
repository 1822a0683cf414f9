"""How a set was made, for its metadata: the code, and for each stage the hashes of its config and nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from jobs import VERSION
from jobs.frame.products import PUBLISH, REPORT, SHARD
from jobs.frame.run import Run
from jobs.frame.summary import Summary
from shards.exports.facts import Activity, Code
from shards.privacy.lineage import SHA256
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
            given={} if stage.name == SHARD else _given(run, summary),
            nets=_nets(summary),
        )
        for stage, summary in found
        if summary is not None
    ]


def _given(run: Run, summary: Summary) -> Mapping[str, str]:
    """Hashes of files from outside of the run, by the field that names them; others have names of the user's."""
    files: Mapping[str, str] = summary.fingerprint.get("files", {})
    return {name: sha256 for name, sha256 in files.items() if _is_field(run, name) and SHA256.fullmatch(sha256)}


def _is_field(run: Run, name: str) -> bool:
    """Whether a name is that of a config field, and no part of it a key that a user chose."""
    section, *fields = name.split(".")
    found: object = run.config.embedder if section == "embedder" else None
    if section in run.stages and fields:
        found = run.config.section(section)
    for field in fields:
        if not isinstance(found, BaseModel) or field not in type(found).model_fields:
            return False
        found = getattr(found, field)
    return found is not None


def _nets(summary: Summary) -> Mapping[str, str]:
    """Hashes of the nets that a stage trained."""
    nets = {output.name: output.sha256 for output in summary.outputs if output.name.endswith(WEIGHTS)}
    return nets if len(nets) <= MANY else {f"{len(nets)} nets": digest(_pairs(nets))}


def _pairs(nets: Mapping[str, str]) -> Sequence[Sequence[str]]:
    return [[name, nets[name]] for name in sorted(nets)]
