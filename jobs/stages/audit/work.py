"""The work of audit: find the nearest real faces, set thresholds by the control group, write the verdict."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from jobs.frame.products import AUDIT, CENTERS, CLOSEST, FINGERPRINT, HELD_OUT, PROBES, REAL, VERDICT
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.frame.verdicts import OWN_KINDS, all_references, recorded_vectors, reference_files
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
from jobs.stages.audit.planted import PlantedCopies, planted_figures
from jobs.stages.fingerprint.plan import audit_net_path, is_independent
from jobs.stages.shared.gate.certified import MarkedFiles, certified_set
from jobs.stages.shared.gate.copies import CopyFinder
from jobs.stages.shared.gate.leak_check import audit_features, load_recorded_net
from jobs.stages.shared.gate.lineage import checked_lineage
from jobs.training.device import rank_device
from shards.labels import classes_of
from shards.privacy.findings import join_findings
from shards.privacy.fingerprints import read_fingerprints
from shards.privacy.impostors import IMAGES, ImpostorScores
from shards.privacy.leaks import outcomes
from shards.privacy.search import search, search_control_group
from shards.privacy.synthetic_faces import SyntheticFaces
from shards.privacy.thresholds import Thresholds
from shards.privacy.verdict import Verdict
from shards.tars.reader import OpenTar
from shards.tars.records import asked_of
from shards.tars.shard_set import ShardSet
from slurm.files import Output, publish, publish_json
from slurm.markers import Marker

log = logging.getLogger(__name__)


def run_rank(run: Run, rank: Rank) -> None:
    config, device = run.section(AuditFaces), rank_device(rank)
    net, altered = load_recorded_net(run, device=device), CopyFinder(run, device=device)
    centers = recorded_vectors(run, CENTERS)
    probes = [recorded_vectors(run, path.name).features for path in run.ledger.outputs(FINGERPRINT, prefix=PROBES)]
    log.info("%s", forecast(run))
    for work in rank.remaining(AuditUnit):
        on_part = partial(work.progress, 0)
        found: AuditedTar | AuditedControl | AuditedPlanted
        if work.unit.planted is not None:
            tar, images = PLANTED, 0
            planted = PlantedCopies(run, work.unit.planted)
            found = planted.searched(net=net, centers=centers, altered=altered, batch=config.batch, on_part=on_part)
        elif work.unit.tar is None:
            tar, images = str(work.unit.control), 0
            name = tar.replace(".tar", ".h5")
            path = run.stage_folder(FINGERPRINT).output(name)
            group = read_fingerprints(path, data=run.ledger.read(FINGERPRINT, name))
            copies = altered.search(group.pictures, identities=group.identities, on_batch=on_part)
            # Not with benchmarks and other sets: people of the control group may be in them, under other names.
            own = all_references(run, kinds=OWN_KINDS)
            matches = search_control_group(group, own, centers=centers, copies=copies, on_part=on_part)
            found = AuditedControl(findings=matches)
        else:
            tar = work.unit.tar
            shards = certified_set(run, run.method.generate.name, tar)
            sha256 = run.ledger.output_record(run.method.generate.name, tar).sha256
            features = audit_features(shards, net=net, batch=config.batch, progress=work.progress)
            matches = search(
                synthetic_faces_of(shards, features=features),
                all_references(run),
                centers=centers,
                probes=probes[0] if probes else centers.features[:0],
                copies=altered.search_images(shards, on_batch=on_part),
                on_part=on_part,
            )
            asked = [asked_of(record) for record in shards.records()]
            found, images = AuditedTar(tar=tar, sha256=sha256, asked=asked, findings=matches), len(asked)
        work.publish(nearest_name(tar), nearest_bytes(found))
        work.done(images=images, counts={})


def synthetic_faces_of(shards: ShardSet, *, features: np.ndarray) -> SyntheticFaces:
    images = (shards.rgb(row) for row in range(len(shards)))
    return SyntheticFaces.of(shards.keys, identities=shards.identities, features=features, images=images)


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
    )
    verdict = Verdict(
        passed=planted["passed"] and len(tally.dropped) <= config.max_dropped_fraction * tally.images,
        images=tally.images,
        references=tally.references,
        embedder=audit_net_path(run).name,
        independent=is_independent(run),
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
