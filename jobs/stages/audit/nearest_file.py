"""`nearest-<tar>.json`: what one unit of the audit found, written and read here alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shards.privacy.findings import Findings
from shards.tars.records import OLD_KEY, Asked


@dataclass(frozen=True, kw_only=True)
class AuditedTar:
    """A synthetic tar by its bytes, what was asked of its images, and their nearest real faces."""

    tar: str
    sha256: str
    asked: list[Asked]
    findings: Findings


@dataclass(frozen=True, kw_only=True)
class AuditedControl:
    """The nearest real faces of a tar of the control group."""

    findings: Findings


@dataclass(frozen=True, kw_only=True)
class AuditedPlanted:
    """The nearest real faces of planted copies of real ones; keys are `<alteration>/<number>`."""

    findings: Findings


PLANTED = "planted"  # in place of the name of a tar


def nearest_name(tar: str) -> str:
    """The file of a unit, by its tar."""
    return f"nearest-{tar.removesuffix('.tar')}.json"


def nearest_bytes(found: AuditedTar | AuditedControl | AuditedPlanted) -> bytes:
    """The content of the file, JSON."""
    value: dict[str, Any] = {"control": isinstance(found, AuditedControl)}
    if isinstance(found, AuditedPlanted):
        value |= {"planted": True}
    if isinstance(found, AuditedTar):
        value |= {"tar": found.tar, "sha256": found.sha256, "asked": found.asked}
    value["findings"] = found.findings.as_json()
    return (json.dumps(value, allow_nan=False) + "\n").encode()


def read_nearest(data: bytes) -> AuditedTar | AuditedControl | AuditedPlanted:
    """What a finished unit found, from its file. Units of older versions have the m of each image and no `asked`."""
    value = json.loads(data)
    findings = Findings.from_json(value["findings"])
    if value["control"]:
        return AuditedControl(findings=findings)
    if value.get("planted"):
        return AuditedPlanted(findings=findings)
    asked = value["asked"] if "asked" in value else [{OLD_KEY: m} for m in value["m"]]
    return AuditedTar(tar=value["tar"], sha256=value["sha256"], asked=asked, findings=findings)
