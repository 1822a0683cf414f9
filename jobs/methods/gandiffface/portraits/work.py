"""The work of portraits: those of a block of identities into a tar, and how well they meet the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.methods.gandiffface.candidates.plan import MakeCandidates
from jobs.methods.gandiffface.identities.plan import MakeIdentities, wished_shares
from jobs.methods.gandiffface.identities.table import read_identities
from jobs.methods.gandiffface.portraits.album import Album
from jobs.methods.gandiffface.portraits.judges import Jury, errors_of, realized
from jobs.methods.gandiffface.portraits.person import Person, Portrait, photographed
from jobs.methods.gandiffface.portraits.plan import FACES, NAME, STAGE, MakePortraits, PortraitsUnit
from jobs.methods.gandiffface.portraits.studio import Studio
from jobs.stages.shared.tars import publishing_tar
from jobs.training.device import rank_device
from shards.images.jpeg import encode_jpeg
from shards.tars.shard_set import ShardSet
from slurm.files import Output
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    """Publish the portraits of each block of identities."""
    device, config = rank_device(rank), run.section(MakePortraits)
    given = run.section(MakeCandidates).faces is not None
    studio = Album(run, device=device) if given else Studio(run, device=device)
    table, jury = read_identities(run), Jury(run)
    for work in rank.remaining(PortraitsUnit):
        block = enumerate(table.identities[work.unit.first : work.unit.last + 1], start=work.unit.first)
        people = [Person(identity=who, candidates=[one.candidate, *one.spares]) for who, one in block if one]
        counts = photographed(people, count=config.count, one_round=partial(studio.photograph, work=work))
        with publishing_tar(work.path(work.unit.tar), record=work.record) as tar:
            for key, portrait, record in _in_order(people):
                tar.add(key, jpg=encode_jpeg(portrait.face, quality=config.quality), record=record)
        if config.originals:
            with publishing_tar(work.path(work.unit.originals), record=work.record) as originals:
                for key, portrait, record in _in_order(people):
                    assert portrait.original is not None
                    originals.add(key, jpg=portrait.original, record=record)
        first = [person.portraits[0] for person in people if person.portraits]
        judged = jury.figures([(portrait.face, portrait.measured) for portrait in first])
        work.done(images=tar.samples, counts=dict(sorted(counts.items())), figures={"target": judged})


def _in_order(people: Sequence[Person]) -> Iterator[tuple[str, Portrait, dict[str, Any]]]:
    """The key, the portrait and the record of each portrait of all people."""
    return (one for person in people for one in person.in_order())


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """One face of each identity as a tar of its own, and how far each attribute moved for its step."""
    folder = run.stage_folder(NAME)
    shards = ShardSet([folder.output(unit.tar) for unit in run.ledger.units(STAGE)])
    outputs: list[Output] = []
    steps: dict[str, list[float]] = {}
    moves: dict[str, list[float]] = {}
    before: dict[str, float] = {}
    people, edited = 0, []
    with publishing_tar(folder.output(FACES), record=outputs.append, replace=True) as tar:
        for row, record in enumerate(shards.records()):
            if record["index"] == 0:
                before, people = record["measured"], people + 1
                tar.add(record["identity"], jpg=shards.jpeg(row), record=record)
                continue
            edited.append(record["cosine"])
            for name, step in record["asked"].items():
                steps.setdefault(name, []).append(step)
                moves.setdefault(name, []).append(record["measured"][name] - before[name])
    figures: dict[str, Any] = {
        "identities": people,
        "portraits": len(shards),
        "cosine_to_unedited": {"mean": round(float(np.mean(edited)), 4) if edited else None, "images": len(edited)},
        "moved": {name: _slope(steps[name], moves[name]) for name in sorted(steps)},
    }
    if run.section(MakeIdentities).target:
        figures["target"] = realized(run, markers, wished=wished_shares(run))
        figures["errors"] = errors_of(run)
    return Finish(outputs=tuple(outputs), figures=figures)


def _slope(steps: Sequence[float], moves: Sequence[float]) -> dict[str, float]:
    """How much the attribute moves per standard deviation asked, and the correlation of both."""
    if len(steps) < 3 or np.std(steps) == 0 or np.std(moves) == 0:
        return {"per_step": 0.0, "correlation": 0.0}
    slope, correlation = np.polyfit(steps, moves, 1)[0], np.corrcoef(steps, moves)[0, 1]
    return {"per_step": round(float(slope), 4), "correlation": round(float(correlation), 4)}
