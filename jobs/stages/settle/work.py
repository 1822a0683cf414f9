"""The work of settle: replace dropped images, audit changed identities again, write the tars to publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.frame.products import REFILL, SETTLE, SYNTHETIC, VERDICT
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.frame.verdicts import verdict_of
from jobs.stages.audit.plan import AuditFaces
from jobs.stages.settle.changes_file import Changes, changes_bytes, changes_name, read_changes
from jobs.stages.settle.plan import STAGE, SettleUnit
from jobs.stages.settle.withdrawn import withdrawn_people
from jobs.stages.shared.gate.certified import MarkedFiles, certified_samples
from jobs.stages.shared.gate.leak_check import LeakCheck
from jobs.stages.shared.gate.synthetic import require_publishable
from jobs.stages.shared.tars import marked_as_synthetic, publishing_tar
from jobs.training.device import rank_device
from shards.privacy.leaks import Leak
from shards.privacy.verdict import Verdict
from shards.tars.reader import Sample
from shards.tars.records import upgraded
from slurm.errors import RunError
from slurm.files import publish_json
from slurm.markers import Marker


@dataclass(frozen=True, kw_only=True)
class RemainingImages:
    """What is left of a tar after the audit.

    Attributes:
        samples: the images that were not dropped and those that were regenerated, sorted by key.
        refilled: keys of the latter.
        withdrawn: how many images of people who were withdrawn are left out.
        changed: identities that lost or got an image.
        dropped: how many images were dropped.
    """

    samples: list[Sample]
    refilled: frozenset[str]
    changed: frozenset[str]
    dropped: int
    withdrawn: int


def run_rank(run: Run, rank: Rank) -> None:
    verdict, check = verdict_of(run), LeakCheck(run, device=rank_device(rank))
    people = withdrawn_people(run)
    for work in rank.remaining(SettleUnit):
        remains = remaining_images(run, work.unit.tar, verdict=verdict, withdrawn=people)
        leaks = _leaks_of_changed_identities(remains, check=check, work=work)
        withdrawn = {leak.key for leak in leaks}
        kept = [sample for sample in remains.samples if sample.key not in withdrawn]
        refilled = [sample.key for sample in kept if sample.key in remains.refilled]
        if kept:
            _write(run, work, kept)
        work.publish(changes_name(work.unit.tar), changes_bytes(Changes(refilled=tuple(refilled), leaks=tuple(leaks))))
        counted = {"refilled": len(refilled)} if refilled else {}
        lost = {"dropped": remains.dropped - len(remains.refilled), "withdrawn": len(withdrawn)}
        lost |= {"on_request": remains.withdrawn} if people else {}
        work.done(images=len(kept), counts={"kept": len(kept) - len(refilled), **counted, **lost})


def remaining_images(
    run: Run, tar: str, *, verdict: Verdict, withdrawn: frozenset[str] = frozenset()
) -> RemainingImages:
    """What is left of a synthetic tar without the images of `withdrawn` people.

    Raises:
        RunError: the tar's sha256 differs from that in the verdict, or a tar is not the one that was recorded.
    """
    generate = run.method.generate.name
    if run.ledger.output_record(generate, tar).sha256 != verdict.judged.get(tar):
        raise RunError(
            f"settle: the sha256 of {generate}/{tar} differs from that in the audit's verdict; run `cemiface audit`"
        )
    leaked, changed, samples = verdict.leaked, set(), []
    dropped = on_request = 0
    for sample in certified_samples(run, generate, tar):
        if sample.key not in leaked:
            gone = sample.record["identity"] in withdrawn
            samples += [] if gone else [sample]
            on_request += gone
        else:
            changed.add(sample.record["identity"])
            dropped += 1
    regenerated = [one for one in _refill_of(run, tar) if one.record["identity"] not in withdrawn]
    return RemainingImages(
        samples=sorted((*samples, *regenerated), key=lambda sample: sample.key),
        refilled=frozenset(sample.key for sample in regenerated),
        changed=frozenset(changed),
        dropped=dropped,
        withdrawn=on_request,
    )


def _refill_of(run: Run, tar: str) -> list[Sample]:
    """The images made in place of some of `tar`; none where there is no tar of such."""
    name = tar.replace(SYNTHETIC, REFILL, 1)
    made = run.includes(REFILL) and any(record.name == name for record in run.ledger.records(REFILL))
    return list(certified_samples(run, REFILL, name)) if made else []


def _leaks_of_changed_identities(remains: RemainingImages, *, check: LeakCheck, work: Work[SettleUnit]) -> list[Leak]:
    changed = [sample for sample in remains.samples if sample.record["identity"] in remains.changed]
    return check.leaks_of_people(
        [sample.jpg for sample in changed],
        keys=[sample.key for sample in changed],
        identities=[sample.record["identity"] for sample in changed],
        progress=work.progress,
    )


def _write(run: Run, work: Work[SettleUnit], samples: Sequence[Sample]) -> None:
    """Write the tar, in the current form: pictures and records of older versions lack marks."""
    with publishing_tar(work.path(work.unit.tar), record=work.record) as tar:
        for sample in samples:
            jpeg = marked_as_synthetic(sample.jpg, key=sample.key, run=run)
            require_publishable(work.unit.tar, sample.key, record=sample.record, jpeg=jpeg, seed=run.seed)
            tar.add(sample.key, jpg=jpeg, record=upgraded(sample.record))
            work.progress()


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Write the final verdict: the audit's, about the settled tars, with regenerated and without withdrawn images."""
    folder, audited = run.stage_folder(SETTLE), verdict_of(run)
    tars = [output for marker in markers for output in marker.outputs if output.name.endswith(".tar")]
    files = MarkedFiles(run, SETTLE, markers)
    changes = [read_changes(files.read(changes_name(unit.tar))) for unit in run.ledger.units(STAGE)]
    leaks = (*audited.leaks, *(leak for change in changes for leak in change.leaks))
    refilled = tuple(key for change in changes for key in change.refilled)
    verdict = replace(audited, judged={tar.name: tar.sha256 for tar in tars}, leaks=leaks, refilled=refilled)
    allowed = run.section(AuditFaces).max_dropped_fraction * audited.images
    verdict = replace(verdict, passed=audited.passed and len(verdict.leaked) <= allowed)
    written = publish_json(folder.output(VERDICT), verdict.record(), replace=True)
    return Finish(
        outputs=(written,),
        figures={"passed": verdict.passed, "dropped": len(verdict.dropped), "refilled": len(refilled)},
    )
