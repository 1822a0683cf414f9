"""The work of embed: embeddings per tar, then one file that joins them with centers."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.frame.products import MERGED, REAL
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.stages.embed.plan import EmbedFaces, EmbedUnit, classifier_path
from jobs.stages.shared.embedder import embedder_path
from jobs.stages.shared.embedding import embed, load_embedder
from jobs.training.device import rank_device
from shards.embeddings.embeddings import embeddings_bytes, merged_bytes, open_merged, with_similarity
from shards.tars.shard_set import ShardSet
from slurm.files import publish, sha256_of
from slurm.markers import Marker


def run_rank(run: Run, rank: Rank) -> None:
    device = rank_device(rank)
    embedder = load_embedder(run, device=device)
    name = sha256_of(embedder_path(run))[:16]
    for work in rank.remaining(EmbedUnit):
        shards = ShardSet([run.stage_folder("shard").output(work.unit.tar)])
        features, flipped = embed(
            shards, embedder=embedder, batch=run.section(EmbedFaces).batch, progress=work.progress
        )
        embedded = with_similarity(shards.keys, identities=shards.identities, features=features, flipped=flipped)
        work.publish(_file_of(work.unit.tar), embeddings_bytes(embedded, embedder=name))
        work.done(images=len(shards), counts={"embedded": len(shards)})


def _file_of(tar: str) -> str:
    return "embeddings-" + tar.removeprefix(f"{REAL}-").removesuffix(".tar") + ".h5"


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Join the files: a small HDF5 of virtual datasets, with identity centers and every image's similarity to its."""
    folder, config = run.stage_folder("embed"), run.section(EmbedFaces)
    parts = [folder.output(output.name) for marker in markers for output in marker.outputs]
    data = merged_bytes(parts, classifier=classifier_path(run))
    written = publish(folder.output(MERGED), data, replace=True)
    merged = open_merged(folder.output(MERGED))
    similarity = merged.similarity
    return Finish(
        outputs=(written,),
        figures={
            "identities": len(merged.classes),
            "embedding": merged.features.shape[1],
            "centers": config.centers,
            "similarity_to_center": {
                "mean": round(float(similarity.mean()), 4),
                "std": round(float(similarity.std()), 4),
                "min": round(float(similarity.min()), 4),
                "max": round(float(similarity.max()), 4),
            },
        },
    )
