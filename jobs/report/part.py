"""A part of the report: a function of the run folder, and the template that shows what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.frame.products import HELD_OUT, REAL, SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.summary import Summary
from shards.tars.shard_set import ShardSet

Section = dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The faces of the run as far as they are there; None for what is not finished."""

    real: ShardSet | None
    held_out: ShardSet | None
    synthetic: ShardSet | None

    @staticmethod
    def of(run: Run) -> Sets:
        sharded = summary(run, "shard") is not None
        return Sets(
            real=real_set(run) if sharded else None,
            held_out=held_out_set(run) if sharded else None,
            synthetic=synthetic_set(run) if summary(run, run.method.generate.name) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """One section. `report_<name>.html.j2` shows the values that `build` returns; None leaves the section out."""

    name: str
    title: str
    build: Callable[[Run, Sets], Section]
    after: str = ""  # of a method's part: the shared part that it follows
    package: str = "jobs.report"  # whose folder `templates` holds its template


def summary(run: Run, stage: str) -> Summary | None:
    """The stage's summary; None where it is no part of the run or has not finished."""
    return run.ledger.summary(stage) if run.asks_for(stage) else None


def real_set(run: Run) -> ShardSet:
    return ShardSet(run.ledger.outputs("shard", prefix=f"{REAL}-", suffix=".tar"))


def held_out_set(run: Run) -> ShardSet | None:
    """The faces kept for verification; None where nobody was held out."""
    tars = run.ledger.outputs("shard", prefix=f"{HELD_OUT}-", suffix=".tar")
    return ShardSet(tars) if tars else None


def synthetic_set(run: Run) -> ShardSet:
    return ShardSet(run.ledger.outputs(run.method.generate.name, prefix=f"{SYNTHETIC}-", suffix=".tar"))
