"""What a run has left out, by outcome, and what it found among the real faces that may not belong there."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.frame.run import Run
from jobs.stages.shard.plan import SKIPPED, SYNTHETIC
from jobs.stages.shard.plan import STAGE as SHARD
from shards.images.outcomes import Outcome

LEFT_OUT = {outcome.value for outcome in Outcome} - {Outcome.KEPT.value, Outcome.CONVERTED.value} | {"unusable"}


def counts_left_out(run: Run, stage: str) -> dict[str, int]:
    """Images that a stage has left out, by outcome, the most frequent first; none before it is finished."""
    summary = run.ledger.summary(stage)
    counts = summary.counts.items() if summary else ()
    left = [(outcome, count) for outcome, count in counts if outcome in LEFT_OUT and count]
    return dict(sorted(left, key=lambda item: (-item[1], item[0])))


def left_out(run: Run) -> Iterator[str]:
    """One line per finished stage that has left out images, such as "shard: 98 of 100 kept: 2 truncated".

    Before them a line about real faces whose files say that they are synthetic, if there are any.
    """
    sharded = run.ledger.summary(SHARD.name)
    found = sharded.figures.get(SYNTHETIC, {}) if sharded else {}
    if sharded and found.get("images"):
        where = run.stage_folder(SHARD.name).summary
        first = f"{found['images']:,} of {sharded.images_out:,} real faces say that they are synthetic"
        yield f"shard: {first} (first: {found['examples'][0]}); they are used all the same; details: {where}"
    for stage in run.chain:
        counts, summary = counts_left_out(run, stage.name), run.ledger.summary(stage.name)
        if not counts or summary is None:
            continue
        total = sum(summary.counts.values())
        reasons = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in counts.items())
        folder = run.stage_folder(stage.name)
        rejected = len(summary.figures.get("rejected", ())) if stage.name == SHARD.name else sum(counts.values())
        details = [str(folder.summary)] if rejected else []
        details += [str(folder.output(SKIPPED))] if rejected < sum(counts.values()) else []
        kept = f"{total - sum(counts.values()):,} of {total:,}"
        yield f"{stage.name}: {kept} kept: {reasons}; details: {' and '.join(details)}"
