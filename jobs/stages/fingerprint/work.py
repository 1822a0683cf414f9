"""The work of fingerprint: embeddings and hashes of every real face, centers, and the probes of the audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jobs.frame.products import BENCHMARK, CENTERS, HELD_OUT, KEPT_BACK, PROBES, REAL, TRAINED
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.stages.convert_benchmarks.plan import NAME as CONVERTED
from jobs.stages.fingerprint.plan import FingerprintFaces, FingerprintUnit, audit_net_path, is_independent
from jobs.stages.shared.privacy import audit_features, load_audit_net
from jobs.training.device import rank_device
from shards.privacy.copies.pictures import gray_pictures
from shards.privacy.fingerprints import (
    Fingerprints,
    Vectors,
    centers_of,
    concatenated,
    hashes_of,
    read_vectors,
    vectors_bytes,
)
from shards.tars.shard_set import ShardSet
from slurm.files import Output, publish, sha256_of
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    net = load_audit_net(run, device=rank_device(rank))
    embedder = sha256_of(audit_net_path(run))[:16]
    batch = run.section(FingerprintFaces).batch
    for work in rank.remaining(FingerprintUnit):
        if work.unit.tar is None:
            name = work.unit.benchmark
            tar, target = run.stage_folder(CONVERTED).output(f"{name}.tar"), f"{BENCHMARK}-{name}.h5"
        else:
            name = work.unit.tar
            tar, target = run.stage_folder("shard").output(name), name.replace(".tar", ".h5")
        shards = ShardSet([tar])
        features = audit_features(shards, net=net, batch=batch, progress=work.progress)
        exact, near = hashes_of(shards.rgb(row) for row in range(len(shards)))
        found = Fingerprints(keys=shards.keys, identities=shards.identities, features=features, exact=exact, near=near)
        if work.unit.pictures:
            found = replace(found, pictures=gray_pictures(shards.rgb(row) for row in range(len(shards))))
        work.publish(target, vectors_bytes(found, embedder=embedder))
        work.done(images=len(shards), counts={"fingerprinted": len(shards)})


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Centers of the real identities, and the probes of the audit, in files of their own."""
    folder = run.stage_folder("fingerprint")
    files: dict[str, list[Path]] = {kind: [] for kind in (REAL, HELD_OUT, KEPT_BACK, BENCHMARK)}
    for name in sorted(output.name for marker in markers for output in marker.outputs if output.name.endswith(".h5")):
        files[next(kind for kind in files if name.startswith(f"{kind}-"))].append(folder.output(name))
    embedder = sha256_of(audit_net_path(run))[:16]
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
            "judge": audit_net_path(run).name,
            "independent": is_independent(run),
            "identities": len(centers.keys),
            "probes": sum(len(part.keys) for part in probes),
        },
    )


def _write(path: Path, data: bytes) -> Output:
    return publish(path, data, replace=True)


def _membership_probes(kept_back: Sequence[Path], real: Sequence[Path]) -> list[Vectors]:
    """Images kept back from training, and for each person as many images that were trained on."""
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
    picked = range(len(vectors.keys)) if rows is None else rows
    return Vectors(
        keys=[vectors.identities[row] for row in picked],
        identities=[group for _ in picked],
        features=vectors.features[list(picked)],
    )
