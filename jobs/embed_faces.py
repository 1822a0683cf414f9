"""Embed: E_id of every real training face and of its mirror image, one HDF5 file per tar, joined without copying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field, model_validator

from jobs.embedder import (
    CLASSIFIER,
    TRAINED_HERE,
    embedder_files,
    embedder_needs,
    embedder_path,
    load_embedder,
    to_unit_range,
)
from jobs.shard_faces import REAL
from jobs.stage import OPERATIONAL, Finish, PathText, Run, Stage, StageConfig, Unit
from jobs.yaml_file import ConfigError
from slurm.files import Output, publish, sha256_of
from slurm.markers import Marker

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cemiface.inception import Inception
    from cemiface.recognition import Embedder
    from jobs.rank import Rank

MERGED = "embeddings.h5"


class EmbedFaces(StageConfig):
    batch: int = Field(256, ge=1, **OPERATIONAL)
    centers: Literal["mean", "classifier"] = "mean"  # of identities: mean direction, or weight row of a classifier
    classifier: PathText | None = None  # safetensors with `weight` (C, E) and `classes`; None: of train-embedder

    @model_validator(mode="after")
    def _check(self) -> EmbedFaces:
        if self.centers == "mean" and self.classifier is not None:
            raise ValueError(f"classifier: got {self.classifier} with centers: mean; allowed: centers: classifier")
        return self


def classifier_path(run: Run) -> Path | None:
    """The classifier whose weight rows are the centers; None where they are means.

    Raises:
        ConfigError: the classifier that came with the user's E_id is not named, or not there.
    """
    config: EmbedFaces = run.section("embed")
    if config.centers == "mean":
        return None
    if config.classifier is None and embedder_needs(run):
        return run.stage_folder(TRAINED_HERE).output(CLASSIFIER)
    path = run.path(config.classifier) if config.classifier else None
    if path is None or not path.is_file():
        raise ConfigError(f"embed.classifier: got {path}, no such file; give the classifier E_id was trained with")
    return path


def files(run: Run) -> dict[str, str]:
    """What the stage reads from outside the run."""
    found, classifier = embedder_files(run), classifier_path(run)
    if classifier and run.section("embed").classifier:
        found["embed.classifier"] = sha256_of(classifier)
    return found


def plan(run: Run) -> list[Unit]:
    """One unit per tar of real training faces."""
    names = [unit["tar"] for unit in run.plan("shard")]
    return [{"tar": name} for name in names if name.startswith(REAL)]


def run_rank(run: Run, rank: Rank) -> None:
    from jobs.device import rank_device
    from shards.embeddings import embeddings_bytes, with_similarity
    from shards.shard_set import ShardSet

    device = rank_device(rank)
    embedder = load_embedder(run, device=device)
    name = sha256_of(embedder_path(run))[:16]
    for work in rank.remaining():
        shards = ShardSet([run.stage_folder("shard").output(work.unit["tar"])])
        features, flipped = embed(shards, embedder=embedder, batch=run.section("embed").batch, progress=work.progress)
        embedded = with_similarity(shards.keys, identities=shards.identities, features=features, flipped=flipped)
        work.publish(_file_of(work.unit["tar"]), embeddings_bytes(embedded, embedder=name))
        work.done(images=len(shards), counts={"embedded": len(shards)})


class Images(Protocol):
    """Numbered images: a shard set, a subset of one, or images in memory."""

    def __len__(self) -> int: ...

    def rgb(self, index: int, /) -> np.ndarray: ...


def embed(
    shards: Images,
    *,
    embedder: Embedder | Inception,
    batch: int,
    progress: Callable[[int], None],
    mirror: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, E) of the images of a shard set and of their mirror images, float32, not normalized.

    Without `mirror` the second are none, (0, E). `progress(n)` is told of every n images and may raise to stop.
    """
    import numpy as np
    import torch

    device = next(embedder.parameters()).device
    plain, mirrored = [], []
    with torch.inference_mode():
        for first in range(0, len(shards), batch):
            rows = range(first, min(first + batch, len(shards)))
            images = np.stack([shards.rgb(row) for row in rows])
            x = to_unit_range(images, device=device)
            plain.append(_numpy(embedder(x)))
            if mirror:
                mirrored.append(_numpy(embedder(x.flip(3))))
            progress(len(rows))
    none = np.empty((0, embedder.embedding), np.float32)
    return np.concatenate(plain), np.concatenate(mirrored or [none])


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.float().cpu().numpy()
    return array


def _file_of(tar: str) -> str:
    return "embeddings-" + tar.removeprefix(f"{REAL}-").removesuffix(".tar") + ".h5"


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Join the files: a small HDF5 of virtual datasets, with identity centers and every image's similarity to its."""
    from shards.embeddings import merged_bytes, open_merged

    folder, config = run.stage_folder("embed"), run.section("embed")
    parts = [folder.output(output.name) for marker in markers for output in marker.outputs]
    data = merged_bytes(parts, classifier=classifier_path(run))
    written = publish(folder.output(MERGED), data, replace=True)
    merged = open_merged(folder.output(MERGED))
    similarity = merged.similarity
    return Finish(
        outputs=(Output(name=MERGED, bytes=written.bytes, sha256=written.sha256),),
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


STAGE = Stage(
    name="embed",
    title="E_id of every real face, identity centers, similarity to center",
    config=EmbedFaces,
    needs=lambda run: ("shard", *embedder_needs(run)),
    files=files,
    plan=plan,
    run_rank=run_rank,
    finish=finish,
    expected_images=lambda run: sum(
        unit["stop"] - unit["start"] for unit in run.plan("shard") if unit["tar"].startswith(REAL)
    ),
)
