"""The check before publishing: only synthetic images pass, with records and pictures that hold nothing private."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.frame.ledger import again
from jobs.frame.products import SETTLE
from shards.images.metadata import foreign_segment
from shards.images.source_mark import mark_of, without_mark
from shards.tars.records import KEY, is_synthetic, private_field
from slurm.errors import RunError


def require_publishable(tar: str, key: str, *, record: Mapping[str, Any], jpeg: bytes, seed: int) -> None:
    """Let only samples pass that may leave the cluster as they are.

    Args:
        seed: of the set.

    Raises:
        RunError: the key may be a name, the record is not of a synthetic image, a field of it may hold text of the
            user's, the image file has other metadata than the mark of synthetic pictures, or not this mark.
    """
    remedy = f"remove {tar} and generate it again"
    if not KEY.fullmatch(key):
        raise RunError(f"{tar}: has an image {key!r}, allowed are keys as 000012-003; {remedy}")
    if not is_synthetic(record):
        raise RunError(f"{tar}: the record of {key} is not of a synthetic image; {remedy}")
    field = private_field(record)
    if field is not None:
        allowed = "numbers, and the names of synthetic identities"
        raise RunError(f"{tar}: the record of {key} has {field!r}, allowed to be published: {allowed}; {remedy}")
    segment = foreign_segment(without_mark(jpeg))
    if segment is not None:
        raise RunError(f"{tar}: the image of {key} has {segment}, allowed: a JPEG without metadata; {remedy}")
    mark = mark_of(jpeg)
    if mark is None:
        raise RunError(
            f"{tar}: the image of {key} does not say that it is synthetic, as those of older versions and those whose "
            f"mark was removed; remove the folder of settle and {again(SETTLE)}"
        )
    if (mark.seed, mark.key) != (seed, key):
        raise RunError(
            f"{tar}: the mark in the image of {key} is that of {mark.key} with seed {mark.seed}, expected is {key} "
            f"with seed {seed}; {remedy}"
        )
