"""Audit: is any synthetic face one of the real ones? Pixels, mirrored and near pixels, nearest real neighbor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jobs.embed_faces import MERGED, embed
from jobs.embedder import embedder_needs, embedder_path, load_embedder
from jobs.shard_faces import HELD_OUT, REAL
from jobs.stage import OPERATIONAL, Finish, Run, Stage, StageConfig, Unit
from slurm.files import Output, publish_json, read_json
from slurm.markers import Marker

if TYPE_CHECKING:
    from cemiface.recognition import Embedder
    from jobs.rank import Rank
    from shards.audit import Verdict
    from shards.embeddings import MergedEmbeddings

VERDICT = "verdict.json"


class AuditFaces(StageConfig):
    false_alarms: float = Field(0.01, gt=0, lt=1)  # of faces of held-out people that the threshold may take for leaks
    fmr: float = Field(1e-3, gt=0, lt=1)  # without held-out people: of the real non-mated pairs that may reach it
    max_dropped_fraction: float = Field(0.5, ge=0, le=1)  # of the set; more dropped images fail the verdict
    batch: int = Field(256, ge=1, **OPERATIONAL)


def plan(run: Run) -> list[Unit]:
    """One unit per synthetic tar; each is held against all real training images."""
    return [{"tar": unit["tar"]} for unit in run.plan("generate")]


def run_rank(run: Run, rank: Rank) -> None:
    from jobs.device import rank_device
    from shards.audit import embedding_leaks, fingerprint, pixel_leaks
    from shards.embeddings import read_merged
    from shards.shard_set import ShardSet

    config: AuditFaces = run.section("audit")
    embedder = load_embedder(run, device=rank_device(rank))
    real = read_merged(run.stage_folder("embed").output(MERGED))
    threshold, basis = _threshold(run, real, embedder=embedder)
    photos = ShardSet(run.outputs("shard", prefix=REAL, suffix=".tar"))
    known = fingerprint((photos.keys[row], photos.rgb(row)) for row in range(len(photos)))
    for work in rank.remaining():
        shards = ShardSet([run.stage_folder("generate").output(work.unit["tar"])])
        features, _ = embed(shards, embedder=embedder, batch=config.batch, progress=work.progress)
        own = fingerprint((shards.keys[row], shards.rgb(row)) for row in range(len(shards)))
        leaks = pixel_leaks(own, known) + embedding_leaks(
            shards.keys,
            features=features,
            real_keys=real.keys,
            real_features=real.features,
            threshold=threshold,
        )
        dropped = {leak.key for leak in leaks}
        by_m: dict[str, list[int]] = {}
        for key, record in zip(shards.keys, shards.records(), strict=True):
            images, dropped_here = by_m.setdefault(str(record["m"]), [0, 0])
            by_m[str(record["m"])] = [images + 1, dropped_here + (key in dropped)]
        result = {
            "images": len(shards),
            "references": len(photos),
            "threshold": threshold,
            "basis": basis,
            "by_m": by_m,
            "leaks": [[leak.key, leak.reason.value, leak.real_key, leak.cosine] for leak in leaks],
        }
        name = work.unit["tar"].replace(".tar", ".json").replace("synthetic", "audit")
        work.publish(name, (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
        work.done(images=len(shards) - len(dropped), counts=_outcomes(leaks, len(shards)))


def _threshold(run: Run, real: MergedEmbeddings, *, embedder: Embedder) -> tuple[float, str]:
    """The cosine from which on a face counts as a real person's, and where it comes from, in words."""
    from shards.audit import impostor_threshold, unseen_threshold
    from shards.shard_set import ShardSet

    config: AuditFaces = run.section("audit")
    held_out = run.outputs("shard", prefix=HELD_OUT, suffix=".tar")
    if not held_out:
        threshold = impostor_threshold(real.features, real.labels, fmr=config.fmr)
        return threshold, f"{config.fmr:g} of the non-mated pairs of real faces reach it"
    shards = ShardSet(held_out)
    unseen, _ = embed(shards, embedder=embedder, batch=config.batch, progress=lambda images: None)
    threshold = unseen_threshold(unseen, real.features, rate=config.false_alarms)
    return threshold, (
        f"{config.false_alarms:.0%} of {len(shards)} faces of {len(shards.classes)} real people "
        "who were not trained on are as close to a training face"
    )


def _outcomes(leaks: Sequence[Any], images: int) -> dict[str, int]:
    """Each image once: under the first, that is the strictest, reason it is dropped for, or as clear."""
    first: dict[str, str] = {}
    for leak in leaks:
        first.setdefault(leak.key, leak.reason.value)
    counts = {reason: list(first.values()).count(reason) for reason in sorted(set(first.values()))}
    return {"clear": images - len(first), **counts}


def verdict_of(run: Run) -> Verdict:
    """The verdict as the audit stage wrote it."""
    from shards.audit import Leak, Reason, Verdict

    value = read_json(run.stage_folder("audit").output(VERDICT))
    leaks = tuple(Leak(**{**leak, "reason": Reason(leak["reason"])}) for leak in value["leaks"])
    names = ("images", "references", "embedder", "threshold", "basis", "judged")
    return Verdict(**{name: value[name] for name in names}, leaks=leaks)


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Join the units' findings into the verdict, which names the bytes it is about."""
    from shards.audit import Leak, Reason, Verdict

    config: AuditFaces = run.section("audit")
    folder = run.stage_folder("audit")
    parts = [read_json(folder.output(output.name)) for marker in markers for output in marker.outputs]
    leaks = tuple(
        Leak(key=key, reason=Reason(reason), real_key=real_key, cosine=cosine)
        for part in parts
        for key, reason, real_key, cosine in part["leaks"]
    )
    tars = [unit["tar"] for unit in run.plan("generate")]
    verdict = Verdict(
        images=sum(part["images"] for part in parts),
        references=parts[0]["references"],
        embedder=embedder_path(run).name,
        threshold=parts[0]["threshold"],
        basis=parts[0]["basis"],
        judged={tar: run.output_record("generate", tar)["sha256"] for tar in tars},
        leaks=leaks,
    )
    by_m: dict[str, list[int]] = {}
    for part in parts:
        for m, (images, dropped) in part["by_m"].items():
            total = by_m.setdefault(m, [0, 0])
            by_m[m] = [total[0] + images, total[1] + dropped]
    passed = len(verdict.dropped) <= config.max_dropped_fraction * verdict.images
    figures = {
        "passed": passed,
        "dropped": len(verdict.dropped),
        "threshold": round(verdict.threshold, 4),
        "basis": verdict.basis,
        "leak_rate_by_m": {m: round(by_m[m][1] / by_m[m][0], 4) for m in sorted(by_m, key=float)},
    }
    written = publish_json(folder.output(VERDICT), verdict.record() | {"passed": passed}, replace=True)
    return Finish(outputs=(Output(name=VERDICT, bytes=written.bytes, sha256=written.sha256),), figures=figures)


STAGE = Stage(
    name="audit",
    title="is any synthetic face one of the real ones?",
    config=AuditFaces,
    needs=lambda run: ("shard", "embed", "generate", *embedder_needs(run)),
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=lambda run: run.section("identities").count * run.section("generate").images_per_identity,
)
