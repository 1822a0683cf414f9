"""A part of the report: a function of the run folder, and the templates that show what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.frame.products import HELD_OUT, REAL, SHARD, SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.summary import Summary
from shards.tars.shard_set import ShardSet

Section = dict[str, Any] | None  # the values of a part's templates; None leaves the part out
PACKAGE = "jobs.report"  # whose templates the shared parts have


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The faces of the run; None for those whose stage has not finished."""

    real: ShardSet | None
    held_out: ShardSet | None
    synthetic: ShardSet | None

    @staticmethod
    def of(run: Run) -> Sets:
        """The sets of a run, read from its finished stages."""
        sharded = summary(run, SHARD) is not None
        return Sets(
            real=real_set(run) if sharded else None,
            held_out=held_out_set(run) if sharded else None,
            synthetic=synthetic_set(run) if summary(run, run.method.generate.name) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """One section of the page, and of results.md if it has figures.

    Attributes:
        name: of its anchor and of its templates, `<name>.html.j2` and, optional, `<name>.md.j2`.
        build: returns the templates' values; None leaves the part out.
        after: of a method's part, the shared part that it follows.
        package: whose folder `templates` has its templates.
    """

    name: str
    title: str
    build: Callable[[Run, Sets], Section]
    after: str = ""
    package: str = PACKAGE


def summary(run: Run, stage: str) -> Summary | None:
    """The stage's summary; None where the run has no such stage or it has not finished."""
    return run.ledger.summary(stage) if run.includes(stage) else None


def real_set(run: Run) -> ShardSet:
    """The real faces that nets are trained on."""
    return ShardSet(run.ledger.outputs(SHARD, prefix=f"{REAL}-", suffix=".tar"))


def held_out_set(run: Run) -> ShardSet | None:
    """The faces kept for verification; None where no people were held out."""
    tars = run.ledger.outputs(SHARD, prefix=f"{HELD_OUT}-", suffix=".tar")
    return ShardSet(tars) if tars else None


def synthetic_set(run: Run) -> ShardSet:
    """The faces that the method generated."""
    return ShardSet(run.ledger.outputs(run.method.generate.name, prefix=f"{SYNTHETIC}-", suffix=".tar"))
