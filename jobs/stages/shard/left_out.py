"""What a run has left out: images that went into a finished stage and did not come out of it, by outcome."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.frame.run import Run
from jobs.stages.shard.plan import SKIPPED
from jobs.stages.shard.plan import STAGE as SHARD
from shards.images.outcomes import Outcome

LEFT_OUT = {outcome.value for outcome in Outcome} - {Outcome.KEPT.value, Outcome.CONVERTED.value} | {"unusable"}


def left_out(run: Run) -> Iterator[str]:
    """One line per finished stage that has left out images, such as "shard: 98 of 100 kept: 2 truncated"."""
    for stage in run.chain:
        summary = run.ledger.summary(stage.name)
        if summary is None:
            continue
        counts = {outcome: count for outcome, count in summary.counts.items() if outcome in LEFT_OUT and count}
        if not counts:
            continue
        total = sum(summary.counts.values())
        outcomes = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        reasons = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in outcomes)
        folder = run.stage_folder(stage.name)
        rejected = len(summary.figures.get("rejected", ())) if stage.name == SHARD.name else sum(counts.values())
        details = [str(folder.summary)] if rejected else []
        details += [str(folder.output(SKIPPED))] if rejected < sum(counts.values()) else []
        kept = f"{total - sum(counts.values()):,} of {total:,}"
        yield f"{stage.name}: {kept} kept: {reasons}; details: {' and '.join(details)}"
