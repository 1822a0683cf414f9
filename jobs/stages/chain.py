"""The order of all stages of a method: shared ones before it, its own, shared ones after it."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.stages.audit.plan import STAGE as AUDIT
from jobs.stages.convert_benchmarks.plan import STAGE as CONVERT_BENCHMARKS
from jobs.stages.embed.plan import STAGE as EMBED
from jobs.stages.evaluate.plan import STAGE as EVALUATE
from jobs.stages.fingerprint.plan import STAGE as FINGERPRINT
from jobs.stages.publish.plan import STAGE as PUBLISH
from jobs.stages.refill.plan import STAGE as REFILL
from jobs.stages.report.plan import STAGE as REPORT
from jobs.stages.settle.plan import STAGE as SETTLE
from jobs.stages.shard.plan import STAGE as SHARD
from jobs.stages.study_sets.plan import STAGE as STUDY_SETS
from jobs.stages.train_recognition.plan import EMBEDDER_STAGE as TRAIN_EMBEDDER
from jobs.stages.train_recognition.plan import STAGE as TRAIN_RECOGNITION


def chain_of(stages: Sequence[Stage[Unit]], *, studies: Sequence[Stage[Unit]] = ()) -> dict[str, Stage[Unit]]:
    """All stages by name, in order: `stages` make the method's set, `studies` look at it."""
    ordered: list[Stage[Unit]] = [SHARD, CONVERT_BENCHMARKS, TRAIN_EMBEDDER, EMBED, *stages, TRAIN_RECOGNITION]
    ordered += [*studies, STUDY_SETS, EVALUATE, FINGERPRINT, AUDIT, REFILL, SETTLE, PUBLISH, REPORT]
    return {stage.name: stage for stage in ordered}
