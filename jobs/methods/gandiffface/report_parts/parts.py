"""The method's own parts of the report, and the shared parts that they follow."""

from __future__ import annotations

from jobs.methods.gandiffface.report_parts.given import given
from jobs.methods.gandiffface.report_parts.identities import identities
from jobs.methods.gandiffface.report_parts.portraits import portraits
from jobs.methods.gandiffface.report_parts.prompts import prompts
from jobs.methods.gandiffface.report_parts.score_tables import score_tables
from jobs.report.part import Part

PACKAGE = "jobs.methods.gandiffface"
PARTS = (
    Part(name="identities", title="Identities", build=identities, after="chain", package=PACKAGE),
    Part(name="portraits", title="Portraits", build=portraits, after="faces", package=PACKAGE),
    Part(name="prompts", title="What was asked, and what pictures show", build=prompts, after="faces", package=PACKAGE),
    Part(name="given", title="Given nets and faces", build=given, after="lineage", package=PACKAGE),
    Part(
        name="score_tables",
        title="Score distributions of the sets",
        build=score_tables,
        after="scores",
        package=PACKAGE,
    ),
)
