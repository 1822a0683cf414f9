"""The method's own parts of the report, and the shared parts that they follow."""

from __future__ import annotations

from jobs.methods.cemiface.report_parts.calibration import calibration
from jobs.methods.cemiface.report_parts.similarity import similarity
from jobs.methods.cemiface.report_parts.studies import studies
from jobs.report.part import Part

PACKAGE = "jobs.methods.cemiface"
PARTS = (
    Part(
        name="similarity", title="Requested and measured similarity", build=similarity, after="faces", package=PACKAGE
    ),
    Part(name="calibration", title="Calibration", build=calibration, after="faces", package=PACKAGE),
    Part(name="studies", title="Accuracy by similarity", build=studies, after="set_metrics", package=PACKAGE),
)
