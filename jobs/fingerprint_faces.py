"""Fingerprint: what the audit needs of every real face, once: an embedding by the judge and hashes of its pixels.

The judge is a recognition net other than E_id where the user has one (`fingerprint.judge.weights`): a net that guided
the generator sees its own idea of likeness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from jobs.convert_benchmarks import NAME as CONVERTED
from jobs.embed_faces import Images, embed
from jobs.embedder import EmbedderConfig, embedder_files, embedder_needs, embedder_path, load_embedder
from jobs.shard_faces import HELD_OUT, KEPT_BACK, REAL
from jobs.stage import OPERATIONAL, Finish, Run, Stage, StageConfig, Unit
from slurm.files import Output, publish, sha256_of
from slurm.markers import Marker

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cemiface.recognition import Embedder
    from jobs.rank import Rank
    from shards.references import Vectors

CENTERS = "centers.h5"  # of the real identities, by the judge
PROBES = "probes.h5"  # real faces whose nearest synthetic face is wanted; their identity is the group they are of
TRAINED, BENCHMARK = "trained", "benchmark"  # groups of probes, beside held-out and kept-back


class FingerprintFaces(StageConfig):
    judge: EmbedderConfig = EmbedderConfig()  # another net to audit with; without weights it is E_id
    batch: int = Field(256, ge=1, **OPERATIONAL)


def plan(run: Run) -> list[Unit]:
    """One unit per tar of real faces, and one per benchmark."""
    benchmarks = [{BENCHMARK: unit[BENCHMARK]} for unit in run.plan(CONVERTED)] if _has_benchmarks(run) else []
    return [*({"tar": unit["tar"]} for unit in run.plan("shard")), *benchmarks]


def _has_benchmarks(run: Run) -> bool:
    return run.asks_for(CONVERTED)


def judge_path(run: Run) -> Path:
    """The weights file of the net that judges.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    weights = run.section("fingerprint").judge.weights
    if weights is None:
        return embedder_path(run)
    return run.given_file("fingerprint.judge.weights", weights, give="a recognition net's weights")


def judge_files(run: Run) -> dict[str, str]:
    """What the judge is from outside of the run."""
    if run.section("fingerprint").judge.weights is None:
        return embedder_files(run)
    return {"fingerprint.judge.weights": sha256_of(judge_path(run))}


def is_independent(run: Run) -> bool:
    """Whether the judge is another net than the one that guided the generator."""
    return sha256_of(judge_path(run)) != sha256_of(embedder_path(run))


def load_judge(run: Run, *, device: torch.device) -> Embedder:
    from cemiface.recognition import load_recognition

    judge = run.section("fingerprint").judge
    if judge.weights is None:
        return load_embedder(run, device=device)
    return load_recognition(judge_path(run), color=judge.color).to(device)


def judged_features(images: Images, *, judge: Embedder, batch: int, progress: Callable[[int], None]) -> np.ndarray:
    """Unit embeddings (N, D) of a set's images together with their mirror images."""
    from shards.references import mirror_invariant

    return mirror_invariant(*embed(images, embedder=judge, batch=batch, progress=progress))


def run_rank(run: Run, rank: Rank) -> None:
    from jobs.device import rank_device
    from shards.references import References, hashes_of, vectors_bytes
    from shards.shard_set import ShardSet

    judge = load_judge(run, device=rank_device(rank))
    embedder = sha256_of(judge_path(run))[:16]
    batch = run.section("fingerprint").batch
    for work in rank.remaining():
        if BENCHMARK in work.unit:
            name = work.unit[BENCHMARK]
            tar, target = run.stage_folder(CONVERTED).output(f"{name}.tar"), f"{BENCHMARK}-{name}.h5"
        else:
            name = work.unit["tar"]
            tar, target = run.stage_folder("shard").output(name), name.replace(".tar", ".h5")
        shards = ShardSet([tar])
        features = judged_features(shards, judge=judge, batch=batch, progress=work.progress)
        exact, near = hashes_of(shards.rgb(row) for row in range(len(shards)))
        found = References(keys=shards.keys, identities=shards.identities, features=features, exact=exact, near=near)
        work.publish(target, vectors_bytes(found, embedder=embedder))
        work.done(images=len(shards), counts={"fingerprinted": len(shards)})


def reference_files(run: Run, *, kind: str = REAL) -> list[Path]:
    """The files of one kind of real faces."""
    return run.outputs("fingerprint", prefix=f"{kind}-", suffix=".h5")


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Centers of the real identities, and the probes of the audit, in files of their own."""
    from shards.references import centers_of, concatenated, read_vectors, vectors_bytes

    folder = run.stage_folder("fingerprint")
    files: dict[str, list[Path]] = {kind: [] for kind in (REAL, HELD_OUT, KEPT_BACK, BENCHMARK)}
    for name in sorted(output.name for marker in markers for output in marker.outputs if output.name.endswith(".h5")):
        files[next(kind for kind in files if name.startswith(f"{kind}-"))].append(folder.output(name))
    embedder = sha256_of(judge_path(run))[:16]
    centers = centers_of(read_vectors(path) for path in files[REAL])
    written = [_write(folder.output(CENTERS), vectors_bytes(centers, embedder=embedder))]
    probes = [
        *_membership_probes(files[KEPT_BACK], files[REAL]),
        *(_group(read_vectors(path), HELD_OUT) for path in files[HELD_OUT]),
        *(_group(read_vectors(path), path.stem) for path in files[BENCHMARK]),
    ]
    if probes:
        written.append(_write(folder.output(PROBES), vectors_bytes(concatenated(probes), embedder=embedder)))
    return Finish(
        outputs=tuple(written),
        figures={
            "judge": judge_path(run).name,
            "independent": is_independent(run),
            "identities": len(centers.keys),
            "probes": sum(len(part.keys) for part in probes),
        },
    )


def _write(path: Path, data: bytes) -> Output:
    return publish(path, data, replace=True)


def _membership_probes(kept_back: Sequence[Path], real: Sequence[Path]) -> list[Vectors]:
    """Photos that were kept back from training, and of the same people as many that were trained on."""
    from shards.references import read_vectors

    probes = [_group(read_vectors(path), KEPT_BACK) for path in kept_back]
    wanted: dict[str, int] = {}
    for path in kept_back:
        for identity in read_vectors(path).identities:
            wanted[identity] = wanted.get(identity, 0) + 1
    for path in real if wanted else ():
        part, rows = read_vectors(path), []
        for row, identity in enumerate(part.identities):
            if wanted.get(identity, 0):
                wanted[identity] -= 1
                rows.append(row)
        if rows:
            probes.append(_group(part, TRAINED, rows=rows))
    return probes


def _group(vectors: Vectors, group: str, *, rows: Sequence[int] | None = None) -> Vectors:
    """Rows of vectors (all, or some) as probes of a group; the key keeps whose face it is."""
    from shards.references import Vectors

    picked = range(len(vectors.keys)) if rows is None else rows
    return Vectors(
        keys=[vectors.identities[row] for row in picked],
        identities=[group for _ in picked],
        features=vectors.features[list(picked)],
    )


STAGE = Stage(
    name="fingerprint",
    title="hashes and embeddings of every real face, for the audit",
    config=FingerprintFaces,
    needs=lambda run: ("shard", *embedder_needs(run), *((CONVERTED,) if _has_benchmarks(run) else ())),
    files=judge_files,
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=lambda run: sum(unit["stop"] - unit["start"] for unit in run.plan("shard")),
)
