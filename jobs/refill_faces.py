"""Refill: in place of every image the audit dropped another of the same wish, made of fresh noise and audited alike.

What leaks again is tried anew, some times. An identity that is a real person by its mean is not refilled: more images
of it would be more images of that person. The means that the new images make are judged by the stage `settle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jobs.audit_faces import verdict_of
from jobs.generate_faces import SYNTHETIC, FaceMaker, Wish, wishes
from jobs.generate_faces import needs as needs_to_generate
from jobs.judge import Judge
from jobs.make_identities import INQUIRIES
from jobs.stage import Run, Stage, StageConfig, Unit
from jobs.tars import publishing_tar
from shards.findings import OF_THE_IDENTITY

if TYPE_CHECKING:
    from jobs.rank import Rank, Work
    from shards.audit import Verdict

REFILL = "refill"


class RefillFaces(StageConfig):
    attempts: int = Field(5, ge=1)  # per dropped image; what leaks every time is left out


@dataclass(frozen=True, kw_only=True)
class Made:
    """An image as it is stored."""

    jpeg: bytes
    record: dict[str, Any]


def plan(run: Run) -> list[Unit]:
    """One unit per synthetic tar; what was dropped of it is known when the unit is worked on."""
    made = run.plan("generate")
    return [unit | {"tar": unit["tar"].replace(SYNTHETIC, REFILL, 1), "of": unit["tar"]} for unit in made]


def run_rank(run: Run, rank: Rank) -> None:
    import torch

    from jobs.device import rank_device
    from shards.embeddings import read_embeddings

    embedded = torch.from_numpy(read_embeddings(run.stage_folder("identities").output(f"{INQUIRIES}.h5")).features)
    maker = FaceMaker(run, embedded=embedded, device=rank_device(rank))
    judge, verdict = Judge(run, device=rank_device(rank)), verdict_of(run)
    for work in rank.remaining():
        block = range(work.unit["first"], work.unit["last"] + 1)
        images = wishes(run.section("generate"), block, identities=len(embedded), seed=run.seed)
        wanted, given_up = _dropped(images, verdict)
        with maker:
            made = _refilled(run, wanted, maker=maker, judge=judge, work=work)
        if made:
            with publishing_tar(work.path(work.unit["tar"]), record=work.record) as tar:
                for key in sorted(made):
                    tar.add(key, jpg=made[key].jpeg, record=made[key].record)
        counts = {"refilled": len(made), "leaked_again": len(wanted) - len(made), "identity_leaked": len(given_up)}
        work.done(images=len(made), counts=counts)


def _dropped(images: Sequence[Wish], verdict: Verdict) -> tuple[list[Wish], list[Wish]]:
    """The dropped images to make anew, and those whose identity is the leak."""
    dropped = set(verdict.dropped)
    people = {leak.key for leak in verdict.leaks if leak.reason in OF_THE_IDENTITY}
    anew = [wish for wish in images if wish.key in dropped and wish.key not in people]
    return anew, [wish for wish in images if wish.key in people]


def _refilled(run: Run, wanted: Sequence[Wish], *, maker: FaceMaker, judge: Judge, work: Work) -> dict[str, Made]:
    """By key all that do not leak, after some attempts."""
    done: dict[str, Made] = {}
    left, size = list(wanted), run.section("generate").batch
    for attempt in range(1, run.section("refill").attempts + 1):
        tried: dict[str, Made] = {}
        for start in range(0, len(left), size):
            batch = maker.sampled(left[start : start + size], work=work, purpose=f"face, attempt {attempt}")
            for wish, jpeg, record in maker.measured(batch):
                tried[wish.key] = Made(jpeg=jpeg, record=record | {"attempt": attempt})
        leaked = judge.leaked([made.jpeg for made in tried.values()], keys=list(tried), work=work)
        done |= {key: made for key, made in tried.items() if key not in leaked}
        left = [wish for wish in left if wish.key in leaked]
        work.progress(len(tried) - len(leaked))
    return done


STAGE = Stage(
    name="refill",
    title="other images in place of those the audit dropped, audited alike",
    config=RefillFaces,
    needs=lambda run: tuple(dict.fromkeys(("fingerprint", "generate", "audit", *needs_to_generate(run)))),
    plan=plan,
    run_rank=run_rank,
)
