"""Who in a run's settled set resembles a given face, by the audit's net and thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from cemiface.recognition.nets import Embedder
from jobs.frame.products import SETTLE
from jobs.frame.run import Run
from jobs.frame.verdicts import verdict_of
from jobs.stages.audit.plan import AuditFaces
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedding import NamedImages
from jobs.stages.shared.gate.certified import certified_set
from jobs.stages.shared.gate.leak_check import audit_features, load_recorded_net
from shards.embeddings.centers import normalized
from shards.errors import DataError
from shards.images.jpeg import decode_rgb
from shards.images.prepare import Align, prepare


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """How near a synthetic person is to a face.

    Attributes:
        cosine: of the nearest image, whose key this is. mean_cosine: of the mean of the person's images.
        near: whether one of them is at or above the audit's threshold.
    """

    identity: str
    key: str
    cosine: float
    mean_cosine: float
    near: bool


def resembling(run: Run, query: np.ndarray | bytes) -> list[Resemblance]:
    """All people of the settled set, the nearest first; on this machine's GPU if it has one.

    Args:
        query: the content of a picture's file, or unit embeddings (Q, D) by the audit's net.

    Raises:
        DataError: the picture is not one as `shard` takes it.
        RunError: a file of the run is not the one that was recorded.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = load_recorded_net(run, device=device)
    batch = run.section(AuditFaces).batch
    if isinstance(query, bytes):
        query = audit_features(_picture(run, query), net=net, batch=batch, progress=lambda _: None)
    found = [
        one
        for record in run.ledger.records(SETTLE, suffix=".tar")
        for one in _in_tar(run, record.name, query, net=net, batch=batch)
    ]
    return sorted(found, key=lambda one: (-max(one.cosine, one.mean_cosine), one.identity))


def _picture(run: Run, data: bytes) -> NamedImages:
    """The face of a picture, prepared as the run's real faces were."""
    config = run.section(ShardFaces)
    align: Align | None = None
    if config.align:
        # Here, as the runtimes of its nets take seconds to import.
        from jobs.stages.shard.aligning import open_align

        align = open_align(config.image_size)
    prepared = prepare(data, rules=config.rules(), align=align)
    if prepared.jpeg is None:
        raise DataError(
            f"--picture: {prepared.outcome.value.replace('_', ' ')}, {prepared.detail}; allowed: a face as the run's "
            f"own are, {config.image_size}x{config.image_size} pixels and aligned"
        )
    return NamedImages(keys=["picture"], identities=["picture"], images=[decode_rgb(prepared.jpeg)])


def _in_tar(run: Run, name: str, query: np.ndarray, *, net: Embedder, batch: int) -> Iterator[Resemblance]:
    thresholds, images = verdict_of(run).thresholds, certified_set(run, SETTLE, name)
    features = audit_features(images, net=net, batch=batch, progress=lambda _: None)
    nearest = (features @ query.T).max(axis=1)
    for identity in images.classes:
        rows = np.flatnonzero([each == identity for each in images.identities])
        best = int(rows[nearest[rows].argmax()])
        mean = float((normalized(features[rows].mean(axis=0, keepdims=True)) @ query.T).max())
        cosine = float(nearest[best])
        yield Resemblance(
            identity=identity,
            key=images.keys[best],
            cosine=cosine,
            mean_cosine=mean,
            near=cosine >= thresholds.image_to_face or mean >= thresholds.identity_to_face,
        )
