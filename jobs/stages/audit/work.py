"""The work of audit: find the nearest real faces, set thresholds by the control group, write the verdict."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from jobs.frame.products import AUDIT, CLOSEST, HELD_OUT, REAL, VERDICT
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.frame.verdicts import recorded_vectors, reference_files
from jobs.report.real_images import RealImages
from jobs.stages.audit.figures import Tally, closest_sheet
from jobs.stages.audit.nearest_file import (
    PLANTED,
    AuditedControl,
    AuditedPlanted,
    AuditedTar,
    nearest_bytes,
    nearest_name,
    read_nearest,
)
from jobs.stages.audit.plan import AuditFaces, AuditUnit, control_tars, forecast
from jobs.stages.audit.planted import planted_figures
from jobs.stages.audit.unit_search import UnitSearch
from jobs.stages.fingerprint.plan import audit_net_path
from jobs.stages.shared.embedding import is_independent
from jobs.stages.shared.gate.certified import MarkedFiles
from jobs.stages.shared.gate.lineage import checked_lineage
from jobs.training.device import rank_device
from shards.labels import classes_of
from shards.privacy.findings import join_findings
from shards.privacy.impostors import IMAGES, ImpostorScores
from shards.privacy.leaks import outcomes
from shards.privacy.thresholds import Thresholds
from shards.privacy.verdict import Verdict
from shards.tars.reader import OpenTar
from shards.tars.shard_set import ShardSet
from slurm.files import Output, publish, publish_json
from slurm.markers import Marker

log = logging.getLogger(__name__)


def run_rank(run: Run, rank: Rank) -> None:
    search = UnitSearch(run, device=rank_device(rank))
    log.info("%s", forecast(run))
    for work in rank.remaining(AuditUnit):
        unit, images = work.unit, 0
        if unit.planted is not None:
            name, data = PLANTED, nearest_bytes(search.planted(unit.planted, work))
        elif unit.control is not None:
            name, data = unit.control, nearest_bytes(search.control(unit.control, work))
        else:
            found = search.synthetic(str(unit.tar), work)
            name, data, images = found.tar, nearest_bytes(found), len(found.asked)
        work.publish(nearest_name(name), data)
        work.done(images=images, counts={})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Set thresholds by the control group, compare every synthetic image, and name the audited bytes in the verdict."""
    config = run.section(AuditFaces)
    folder = run.stage_folder(AUDIT)
    impostors = impostor_scores(run)
    thresholds = _thresholds(run, markers)
    tally = Tally(thresholds, rates=impostors.resolved(config.fmr))
    judged = {}
    for part in _parts(run, markers):
        if isinstance(part, AuditedTar):
            tally.add(part.findings, asked=part.asked)
            judged[part.tar] = part.sha256
    planted = planted_figures(
        [part.findings for part in _parts(run, markers) if isinstance(part, AuditedPlanted)],
        thresholds,
        min_recall=config.min_recall,
        thorough=config.copies == "thorough",
    )
    verdict = Verdict(
        passed=planted["passed"] and len(tally.dropped) <= config.max_dropped_fraction * tally.images,
        images=tally.images,
        references=tally.references,
        embedder=audit_net_path(run).name,
        independent=is_independent(run, audit_net_path(run)),
        thresholds=thresholds,
        judged=judged,
        leaks=tuple(tally.leaks),
        figures={**tally.figures(run), "copies": config.copies, "planted": planted},
        lineage=checked_lineage(run),
    )
    if verdict.missed:
        log.warning("audit: %s", verdict.missed)
    counts = outcomes(verdict.leaks, images=verdict.images)
    written = publish_json(folder.output(VERDICT), verdict.record(), replace=True)
    return Finish(
        outputs=(written, *_sheet(run, verdict)),
        counts=counts,
        images_out=counts["clear"],
        figures={
            "passed": verdict.passed,
            "dropped": len(verdict.dropped),
            "independent": verdict.independent,
            "threshold": round(thresholds.image_to_face, 4),
            "basis": thresholds.basis,
            **verdict.figures,
        },
    )


def _parts(run: Run, markers: Sequence[Marker]) -> Iterator[AuditedTar | AuditedControl | AuditedPlanted]:
    files = MarkedFiles(run, AUDIT, markers)
    return (read_nearest(files.read(marker.outputs[0].name)) for marker in markers)


def _thresholds(run: Run, markers: Sequence[Marker]) -> Thresholds:
    control = join_findings(part.findings for part in _parts(run, markers) if isinstance(part, AuditedControl))
    unseen = any(tar.startswith(HELD_OUT) for tar in control_tars(run))
    people = "real people that no net was trained on" if unseen else "training people, each compared with the others,"
    return Thresholds.from_control(control, rate=run.section(AuditFaces).false_alarms, people=people)


def impostor_scores(run: Run) -> ImpostorScores:
    """Non-mated scores of real training faces, sampled evenly from all tars."""
    files = reference_files(run, kinds=(REAL,))
    features, identities = [], []
    for path in files:
        part = recorded_vectors(run, path.name)
        every = max(1, len(part.keys) * len(files) // IMAGES)
        features.append(part.features[::every])
        identities += part.identities[::every]
    return ImpostorScores(np.concatenate(features), classes_of(identities)[1])


def _sheet(run: Run, verdict: Verdict) -> list[Output]:
    """The closest pairs as a picture, each synthetic face beside its real one. It stays in the run folder."""
    folder = run.stage_folder(run.method.generate.name)
    synthetic = ShardSet([OpenTar(folder.output(tar)) for tar in verdict.judged])  # scanned, as they were audited
    data = closest_sheet(verdict, synthetic=synthetic, real=RealImages(run))
    return [publish(run.stage_folder(AUDIT).output(CLOSEST), data, replace=True)]
