"""Audit: is any synthetic face, or any synthetic person, a real one? Pixels, and the nearest of everything real.

The units only find what is nearest, to the synthetic tars and to the control group: people held out, or, where nobody
is, the training people, each held against the others. The last rank judges, when the control group is whole.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from jobs.audit_figures import Tally, closest_sheet
from jobs.embedder import embedder_needs
from jobs.fingerprint_faces import (
    CENTERS,
    PROBES,
    is_independent,
    judge_path,
    judged_features,
    load_judge,
    reference_files,
)
from jobs.shard_faces import HELD_OUT, REAL
from jobs.stage import OPERATIONAL, Finish, Run, Stage, StageConfig, Unit
from slurm.errors import RunError
from slurm.files import Output, publish, publish_json, read_json, sha256_of
from slurm.markers import Marker

if TYPE_CHECKING:
    import numpy as np

    from jobs.rank import Rank
    from shards.audit import Thresholds, Verdict
    from shards.findings import Suspects
    from shards.impostors import ImpostorScores
    from shards.references import References
    from shards.shard_set import ShardSet

VERDICT, CLOSEST = "verdict.json", "closest.jpg"
HASH_WIDTH = 2 * 256  # of the pixel hashes, mirrored and not, which are compared like embeddings
USUAL_WIDTH = 512  # of embeddings, while the judge has made none
CONTROL_IMAGES = 20_000  # of training people; a hundred of them then stand above the usual threshold
log = logging.getLogger(__name__)


class AuditFaces(StageConfig):
    false_alarms: float = Field(0.005, gt=0, lt=1)  # of the control group's faces, which the audit may take for leaks
    # Of the real non-mated pairs; the leak rate is told at each.
    fmr: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((1e-3, 1e-4, 1e-5, 1e-6), min_length=1)
    max_dropped_fraction: float = Field(0.5, ge=0, le=1)  # of the set; more dropped images fail the verdict
    batch: int = Field(256, ge=1, **OPERATIONAL)


def plan(run: Run) -> list[Unit]:
    """One unit per synthetic tar, and per tar of the control group; each is held against everything real."""
    return [*({"tar": unit["tar"]} for unit in run.plan("generate")), *({"control": tar} for tar in control_tars(run))]


def control_tars(run: Run) -> list[str]:
    """The tars of held-out people, or some of the training people's, evenly out of all."""
    planned = run.plan("shard")
    held_out = [unit["tar"] for unit in planned if unit["tar"].startswith(HELD_OUT)]
    trained = [unit for unit in planned if unit["tar"].startswith(REAL)]
    images = sum(unit["stop"] - unit["start"] for unit in trained)
    return held_out or [unit["tar"] for unit in trained[:: max(1, images // CONTROL_IMAGES)]]


def run_rank(run: Run, rank: Rank) -> None:
    from jobs.device import rank_device
    from shards.findings import search, search_strangers
    from shards.references import read_vectors
    from shards.shard_set import ShardSet

    config: AuditFaces = run.section("audit")
    judge = load_judge(run, device=rank_device(rank))
    centers = read_vectors(run.stage_folder("fingerprint").output(CENTERS))
    probes = [read_vectors(path).features for path in run.outputs("fingerprint", prefix=PROBES)]
    log.info("%s", forecast(run))
    for work in rank.remaining():
        ((kind, tar),) = work.unit.items()
        on_part = partial(work.progress, 0)
        if kind == "control":
            group = read_vectors(run.stage_folder("fingerprint").output(tar.replace(".tar", ".h5")))
            found = search_strangers(group, all_references(run), centers=centers, on_part=on_part)
            value: dict[str, Any] = {"control": True, "findings": found.as_json()}
        else:
            path = run.stage_folder("generate").output(tar)
            sha256 = sha256_of(path)  # of the bytes that are read now, whatever markers say
            shards = ShardSet([path])
            features = judged_features(shards, judge=judge, batch=config.batch, progress=work.progress)
            found = search(
                suspects(shards, features=features),
                all_references(run),
                centers=centers,
                probes=probes[0] if probes else centers.features[:0],
                on_part=on_part,
            )
            wished = [record["m"] for record in shards.records()]
            value = {"control": False, "tar": tar, "sha256": sha256, "m": wished, "findings": found.as_json()}
        work.publish(f"nearest-{tar.removesuffix('.tar')}.json", (json.dumps(value, allow_nan=False) + "\n").encode())
        work.done(images=len(value.get("m", ())), counts={})


def suspects(shards: ShardSet, *, features: np.ndarray) -> Suspects:
    from shards.findings import Suspects

    images = (shards.rgb(row) for row in range(len(shards)))
    return Suspects.of(shards.keys, identities=shards.identities, features=features, images=images)


def all_references(run: Run) -> Iterator[References]:
    """Every real training face, a tar at a time."""
    from shards.references import read_references

    return (read_references(path) for path in reference_files(run))


def forecast(run: Run) -> str:
    """How long the comparisons will take, at the speed this machine is tried to have; known from the start."""
    from shards.nearest import pairs_per_second
    from shards.references import read_vectors

    images = run.stages["generate"].expected_images(run) or 0
    files = reference_files(run)
    real = sum(unit["stop"] - unit["start"] for unit in run.plan("shard") if unit["tar"].startswith(REAL))
    width = read_vectors(files[0]).features.shape[1] if files else USUAL_WIDTH
    seconds = images * real / pairs_per_second(width + HASH_WIDTH)
    ranks = max(1, min(run.cluster.of_array("audit").world(), len(run.plan("audit"))))
    shared = f", {_spent(seconds / ranks)} for each of {ranks}" if ranks > 1 else ""
    return f"audit: {images:,} x {real:,} comparisons, about {_spent(seconds)} of one rank on this machine{shared}"


def _spent(seconds: float) -> str:
    if seconds > 7200:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds > 120 else f"{seconds:.0f} s"


def verdict_of(run: Run, *, stage: str = "audit") -> Verdict:
    """The verdict as the audit wrote it, or another stage that changed something of the set.

    Raises:
        RunError: there is none.
    """
    from shards.audit import Verdict

    value = read_json(run.stage_folder(stage).output(VERDICT))
    if not isinstance(value, dict):
        raise RunError(f"{stage}: left no verdict; run `cemiface {stage}` again")
    return Verdict.from_record(value)


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Judge: thresholds from the control group, then every synthetic image, and the verdict names the bytes judged."""
    from shards.audit import Verdict, outcomes
    from shards.findings import Findings

    config: AuditFaces = run.section("audit")
    folder = run.stage_folder("audit")
    impostors = impostor_scores(run)
    thresholds = _thresholds(run, markers)
    tally = Tally(thresholds, rates=impostors.resolved(config.fmr))
    judged = {}
    for value in _parts(run, markers, control=False):
        tally.add(Findings.from_json(value["findings"]), similarities=value["m"])
        judged[value["tar"]] = value["sha256"]
    verdict = Verdict(
        passed=len(tally.dropped) <= config.max_dropped_fraction * tally.images,
        images=tally.images,
        references=tally.references,
        embedder=judge_path(run).name,
        independent=is_independent(run),
        thresholds=thresholds,
        judged=judged,
        leaks=tuple(tally.leaks),
        figures=tally.figures(run),
    )
    counts = outcomes(verdict.leaks, images=verdict.images)
    written = publish_json(folder.output(VERDICT), verdict.record(), replace=True)
    return Finish(
        outputs=(Output(name=VERDICT, bytes=written.bytes, sha256=written.sha256), *_sheet(run, verdict)),
        counts=counts,
        images_out=counts["clear"],
        figures={
            "passed": verdict.passed,
            "dropped": len(verdict.dropped),
            "independent": verdict.independent,
            "threshold": round(thresholds.image_to_face, 4),
            "basis": thresholds.basis,
            **verdict.figures,
        },
    )


def _parts(run: Run, markers: Sequence[Marker], *, control: bool) -> Iterator[dict[str, Any]]:
    folder = run.stage_folder("audit")
    for marker in markers:
        value = read_json(folder.output(marker.outputs[0].name))
        if value["control"] == control:
            yield value


def _thresholds(run: Run, markers: Sequence[Marker]) -> Thresholds:
    from shards.audit import Thresholds
    from shards.findings import Findings, joined

    control = joined(Findings.from_json(value["findings"]) for value in _parts(run, markers, control=True))
    unseen = any(tar.startswith(HELD_OUT) for tar in control_tars(run))
    people = "real people nobody trained on" if unseen else "training people, each held against the others,"
    return Thresholds.from_control(control, rate=run.section("audit").false_alarms, people=people)


def impostor_scores(run: Run) -> ImpostorScores:
    """Of real training faces, evenly out of all tars."""
    import numpy as np

    from shards.impostors import IMAGES, ImpostorScores
    from shards.labels import classes_of
    from shards.references import read_vectors

    files = reference_files(run)
    features, identities = [], []
    for path in files:
        part = read_vectors(path)
        every = max(1, len(part.keys) * len(files) // IMAGES)
        features.append(part.features[::every])
        identities += part.identities[::every]
    return ImpostorScores(np.concatenate(features), classes_of(identities)[1])


def _sheet(run: Run, verdict: Verdict) -> list[Output]:
    """The closest pairs as a picture, each synthetic face beside its real one. It stays in the run folder."""
    from shards.shard_set import ShardSet

    real = ShardSet(run.outputs("shard", prefix=f"{REAL}-", suffix=".tar"))
    synthetic = ShardSet([run.stage_folder("generate").output(tar) for tar in verdict.judged])
    data = closest_sheet(verdict, synthetic=synthetic, real=real)
    written = publish(run.stage_folder("audit").output(CLOSEST), data, replace=True)
    return [Output(name=CLOSEST, bytes=written.bytes, sha256=written.sha256)]


STAGE = Stage(
    name="audit",
    title="is any synthetic face one of the real ones?",
    config=AuditFaces,
    needs=lambda run: ("shard", "fingerprint", "generate", *(embedder_needs(run))),
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    forecast=forecast,
    expected_images=lambda run: run.stages["generate"].expected_images(run),
)
