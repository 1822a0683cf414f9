"""The work of fingerprint: embeddings and hashes of every real face, centers, and the probes of the audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jobs.frame.products import ALSO, BENCHMARK, CENTERS, HELD_OUT, KEPT_BACK, PROBES, REAL, TRAINED
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.frame.verdicts import KINDS
from jobs.stages.convert_benchmarks.plan import NAME as CONVERTED
from jobs.stages.fingerprint.also_images import given_fingerprints, listed_images
from jobs.stages.fingerprint.plan import FingerprintFaces, FingerprintUnit, audit_net_path
from jobs.stages.shared.embedding import is_independent
from jobs.stages.shared.gate.certified import MarkedFiles, certified_set
from jobs.stages.shared.gate.leak_check import audit_features, load_audit_net
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
from slurm.files import publish, sha256_of
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    net = load_audit_net(run, device=rank_device(rank))
    embedder = sha256_of(audit_net_path(run))[:16]
    batch = run.section(FingerprintFaces).batch
    for work in rank.remaining(FingerprintUnit):
        if work.unit.also is not None and work.unit.images is None:
            found, counts = given_fingerprints(run, work.unit, embedder=embedder, width=net.embedding), {}
        else:
            images, counts = (_tar_of(run, work.unit), {}) if work.unit.also is None else listed_images(run, work)
            features = audit_features(images, net=net, batch=batch, progress=work.progress)
            exact, near = hashes_of(images.rgb(row) for row in range(len(images)))
            found = Fingerprints(
                keys=images.keys, identities=images.identities, features=features, exact=exact, near=near
            )
            if work.unit.pictures:
                found = replace(found, pictures=gray_pictures(images.rgb(row) for row in range(len(images))))
        work.publish(work.unit.file, vectors_bytes(found, embedder=embedder))
        work.done(images=len(found.keys), counts={"fingerprinted": len(found.keys), **counts})


def _tar_of(run: Run, unit: FingerprintUnit) -> ShardSet:
    """The images of a tar of this run, as it was recorded."""
    if unit.tar is not None:
        return certified_set(run, "shard", unit.tar)
    if unit.benchmark is not None:
        return certified_set(run, CONVERTED, f"{unit.benchmark}.tar")
    return certified_set(run, str(unit.stage), str(unit.faces))


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Centers of the real identities, and the probes of the audit, in files of their own."""
    folder = run.stage_folder("fingerprint")
    marked = MarkedFiles(run, "fingerprint", markers)
    files: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for name in (name for name in marked.names if name.endswith(".h5")):
        files[next(kind for kind in files if name.startswith(f"{kind}-"))].append(folder.output(name))

    def read(path: Path) -> Vectors:
        return read_vectors(path, data=marked.read(path.name))

    embedder = sha256_of(audit_net_path(run))[:16]
    centers = centers_of(read(path) for path in files[REAL])
    written = [publish(folder.output(CENTERS), vectors_bytes(centers, embedder=embedder), replace=True)]
    probes = [
        *_membership_probes(files[KEPT_BACK], files[REAL], read=read),
        *(_group(read(path), HELD_OUT) for path in files[HELD_OUT]),
        *(_group(read(path), path.stem) for path in files[BENCHMARK]),
    ]
    if probes:
        data = vectors_bytes(concatenated(probes), embedder=embedder)
        written.append(publish(folder.output(PROBES), data, replace=True))
    others = _counts(files[ALSO], sets=len(run.section(FingerprintFaces).also), read=read)
    return Finish(
        outputs=tuple(written),
        figures={
            "judge": audit_net_path(run).name,
            "independent": is_independent(run, audit_net_path(run)),
            "identities": len(centers.keys),
            "probes": sum(len(part.keys) for part in probes),
            **({"also": others} if others else {}),
        },
    )


def _counts(files: Sequence[Path], *, sets: int, read: Callable[[Path], Vectors]) -> list[dict[str, int]]:
    """Images and identities of each other set."""
    images, identities = ([set[str]() for _ in range(sets)] for _ in range(2))
    for path in files:
        number, part = int(path.stem.split("-")[1]), read(path)
        images[number] |= set(part.keys)  # the same file given twice is not more images
        identities[number] |= set(part.identities)
    return [{"images": len(one), "identities": len(names)} for one, names in zip(images, identities, strict=True)]


def _membership_probes(
    kept_back: Sequence[Path], real: Sequence[Path], *, read: Callable[[Path], Vectors]
) -> list[Vectors]:
    """Images kept back from training, and for each person as many images that were trained on."""
    probes = [_group(read(path), KEPT_BACK) for path in kept_back]
    wanted: dict[str, int] = {}
    for path in kept_back:
        for identity in read(path).identities:
            wanted[identity] = wanted.get(identity, 0) + 1
    for path in real if wanted else ():
        part, rows = read(path), []
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
