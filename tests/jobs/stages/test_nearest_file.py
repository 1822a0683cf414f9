"""What a unit of the audit found, as a file."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.stages.audit.nearest_file import AuditedControl, AuditedTar, nearest_bytes, nearest_name, read_nearest
from shards.privacy.findings import ClosestMatches, Findings

MATCHES = ClosestMatches(names=["a"], face=["x"], face_cosine=[0.5], center=["p"], center_cosine=[0.25])
FINDINGS = Findings(images=MATCHES, people=MATCHES, identities=["p"], pixels=[], probes=[0.5], references=3)


def test_a_synthetic_tar_reads_back_as_written(tmp_path: Path) -> None:
    found = AuditedTar(tar="synthetic-00000.tar", sha256="0" * 64, asked=[{"m": 0.5}], findings=FINDINGS)
    path = tmp_path / nearest_name(found.tar)
    path.write_bytes(nearest_bytes(found))
    assert path.name == "nearest-synthetic-00000.json"
    assert read_nearest(path.read_bytes()) == found


def test_a_control_tar_reads_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / nearest_name("held-out-00000.tar")
    path.write_bytes(nearest_bytes(AuditedControl(findings=FINDINGS)))
    assert read_nearest(path.read_bytes()) == AuditedControl(findings=FINDINGS)


def test_a_unit_of_an_older_version_has_the_m_of_each_image(tmp_path: Path) -> None:
    path = tmp_path / "nearest.json"
    value = {"control": False, "tar": "t.tar", "sha256": "1", "m": [0.25], "findings": FINDINGS.as_json()}
    path.write_text(json.dumps(value))
    found = read_nearest(path.read_bytes())
    assert isinstance(found, AuditedTar)
    assert found.asked == [{"m": 0.25}]
