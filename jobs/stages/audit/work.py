"""The work of audit: find the nearest real faces, set thresholds by the control group, write the verdict."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from jobs.frame.products import AUDIT, CENTERS, CLOSEST, FINGERPRINT, HELD_OUT, PROBES, REAL, VERDICT
from jobs.frame.rank import Rank
from jobs.frame.real_images import RealImages
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.frame.verdicts import OWN_KINDS, all_references, recorded_vectors, reference_files
from jobs.stages.audit.figures import Tally, closest_sheet
from jobs.stages.audit.nearest_file import AuditedControl, AuditedTar, nearest_bytes, nearest_name, read_nearest
from jobs.stages.audit.plan import AuditFaces, AuditUnit, control_tars, forecast
from jobs.stages.fingerprint.plan import audit_net_path, is_independent
from jobs.stages.shared.certified import MarkedFiles, certified_set
from jobs.stages.shared.lineage import checked_lineage
from jobs.stages.shared.privacy import audit_features, load_recorded_net
from jobs.training.device import rank_device
from shards.labels import classes_of
from shards.privacy.findings import join_findings
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
    config = run.section(AuditFaces)
    net = load_recorded_net(run, device=rank_device(rank))
    centers = recorded_vectors(run, CENTERS)
    probes = [recorded_vectors(run, path.name).features for path in run.ledger.outputs(FINGERPRINT, prefix=PROBES)]
    log.info("%s", forecast(run))
    for work in rank.remaining(AuditUnit):
        on_part = partial(work.progress, 0)
        if work.unit.tar is None:
            tar, images = str(work.unit.control), 0
            group = recorded_vectors(run, tar.replace(".tar", ".h5"))
            # Not with benchmarks and other sets: people of the control group may be in them, under other names.
            own = all_references(run, kinds=OWN_KINDS)
            matches = search_control_group(group, own, centers=centers, on_part=on_part)
            found: AuditedTar | AuditedControl = AuditedControl(findings=matches)
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
    verdict = Verdict(
        passed=len(tally.dropped) <= config.max_dropped_fraction * tally.images,
        images=tally.images,
        references=tally.references,
        embedder=audit_net_path(run).name,
        independent=is_independent(run),
        thresholds=thresholds,
        judged=judged,
        leaks=tuple(tally.leaks),
        figures=tally.figures(run),
        lineage=checked_lineage(run),
    )
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


def _parts(run: Run, markers: Sequence[Marker]) -> Iterator[AuditedTar | AuditedControl]:
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
