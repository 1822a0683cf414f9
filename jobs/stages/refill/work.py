"""The work of refill: regenerate what was dropped, keep what does not leak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.frame.method import GeneratedImage, ImageRequest, Remaker, identity_number
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.verdicts import verdict_of
from jobs.stages.refill.plan import RefillFaces, RefillUnit
from jobs.stages.shared.gate.certified import certified_set
from jobs.stages.shared.gate.leak_check import LeakCheck
from jobs.stages.shared.tars import add_generated, publishing_tar
from jobs.training.device import rank_device
from shards.privacy.leaks import IDENTITY_REASONS
from shards.privacy.verdict import Verdict
from shards.tars.records import is_copy


def run_rank(run: Run, rank: Rank) -> None:
    device = rank_device(rank)
    remaker, verdict = run.method.load_remaker(run, device=device), verdict_of(run)
    check = LeakCheck(run, device=device)
    attempts = run.section(RefillFaces).attempts
    for work in rank.remaining(RefillUnit):
        images = certified_set(run, run.method.generate.name, work.unit.of)
        wanted, of_leaked_identities = _dropped(dict(zip(images.keys, images.records(), strict=True)), verdict)
        made = _refilled(wanted, attempts=attempts, remaker=remaker, check=check, work=work)
        if made:
            with publishing_tar(work.path(work.unit.tar), record=work.record) as tar:
                for key in sorted(made):
                    add_generated(tar, made[key], run=run)
        counts = {
            "refilled": len(made),
            "leaked_again": len(wanted) - len(made),
            "identity_leaked": of_leaked_identities,
        }
        work.done(images=len(made), counts=counts)


def _dropped(records: Mapping[str, Mapping[str, Any]], verdict: Verdict) -> tuple[list[ImageRequest], int]:
    """The dropped images to regenerate, and how many have an identity that is the leak."""
    dropped = set(verdict.dropped)
    of_leaked_people = {leak.key for leak in verdict.leaks if leak.reason in IDENTITY_REASONS}
    generated = {key: record for key, record in records.items() if not is_copy(record)}
    wanted = [
        ImageRequest(identity=identity_number(record["identity"]), index=record["index"])
        for key, record in generated.items()
        if key in dropped and key not in of_leaked_people
    ]
    return wanted, sum(key in of_leaked_people for key in generated)


def _refilled(
    wanted: Sequence[ImageRequest], *, attempts: int, remaker: Remaker, check: LeakCheck, work: Work[RefillUnit]
) -> dict[str, GeneratedImage]:
    """By key all that do not leak, after some attempts."""
    done: dict[str, GeneratedImage] = {}
    left = list(wanted)
    for attempt in range(1, attempts + 1):
        tried = {image.request.key: image for image in remaker.remake(left, attempt=attempt, work=work)}
        leaked = check.leaked([image.jpeg for image in tried.values()], keys=list(tried), progress=work.progress)
        done |= {key: image for key, image in tried.items() if key not in leaked}
        left = [request for request in left if request.key not in done]
        work.progress(len(tried) - len(leaked))
    return done
