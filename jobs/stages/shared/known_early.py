"""What is known about the sets before they are used: refusals that would otherwise come after hours of other work.

Counts of real faces are those of the plan, an upper bound, until `shard` is done; then they are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.frame.errors import USER_ERRORS, ConfigError
from jobs.frame.products import REAL, SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.stages.shard.counts import face_counts, images_of_kind, known_identities
from jobs.stages.shared.imported_sets import SETS, public_manifest, registered
from jobs.stages.shared.other_runs import PREFIX, other_set
from jobs.training.recipe import Recipe

COPIES = "inquiry_copies"  # a field of a generating stage that adds images beyond those expected


def images_known(run: Run, kinds: Sequence[str], *, counts: Mapping[str, int]) -> int | None:
    """Images of these sets together, at most; None if that is not known."""
    known = [_images(run, kind, counts=counts) for kind in kinds]
    return None if None in known else sum(images for images in known if images is not None)


def _images(run: Run, kind: str, *, counts: Mapping[str, int]) -> int | None:
    if kind == REAL:
        return images_of_kind(counts, REAL)
    if kind == SYNTHETIC:
        generate = run.method.generate
        section = run.config.section(generate.name)
        more = section is None or section.model_dump().get(COPIES)
        return None if more else generate.expected_images(run)
    if kind.startswith(PREFIX):
        return other_set(run, kind).images
    return public_manifest(registered(kind, sets=run.path(SETS))).totals.samples


def check_batch(run: Run, field: str, batch: int, *, kinds: Sequence[str], counts: Mapping[str, int]) -> None:
    """Refuse a batch that is larger than the set: no epoch would have a whole one.

    Raises:
        ConfigError: it is.
    """
    refuse_large(f"{field}.batch", batch, images=images_known(run, kinds, counts=counts), of=" and ".join(kinds))


def refuse_large(field: str, value: int, *, images: int | None, of: str) -> None:
    """Refuse a number of images that is above that of a set; `images` None: unknown.

    Raises:
        ConfigError: it is.
    """
    if images is not None and value > images:
        raise ConfigError(f"{field}: got {value} for {images} images ({of}); allowed: 1 to {images}; lower it")


def check_ranks(run: Run, stage: str, *, batch: int, micro_batch: int | None = None) -> None:
    """Refuse a batch that cannot be shared by the ranks of a distributed stage.

    Raises:
        ConfigError: it does not divide by their number, or a share by the micro batch.
    """
    ranks = run.cluster.of_train(stage).world()
    share, rest = divmod(batch, ranks)
    if rest:
        raise ConfigError(
            f"{stage}.batch: got {batch} for {ranks} ranks (nodes x ranks_per_node of the cluster file); allowed: a "
            f"multiple of {ranks}; change one of them"
        )
    if micro_batch and share % micro_batch:
        raise ConfigError(
            f"{stage}.micro_batch: got {micro_batch} for a share of {share} images per rank; allowed: a divisor of it"
        )


def check_training(run: Run, stage: str, recipe: Recipe, *, kinds: Sequence[str]) -> None:
    """Before a launch: refuse a recognition training that would end before its first step, or learn nothing."""
    check_ranks(run, stage, batch=recipe.batch)
    people = known_identities(run) if tuple(kinds) == (REAL,) else None
    if people is not None and people < 2:
        raise ConfigError(
            f"{stage}.sets: got {people} identity of shard.faces to train on; allowed: 2 or more; lower "
            "shard.held_out_identities, or see how shard.faces is read"
        )
    check_batch(run, stage, recipe.batch, kinds=kinds, counts=face_counts(run) if REAL in kinds else {})


def refuse_now_known(run: Run, counts: Mapping[str, int]) -> None:
    """Once `shard` is done: refuse what its exact counts rule out, if those of the plan did not.

    Raises:
        ConfigError: a stage of the run could not do its work.
    """
    for stage in run.chain:
        if _refusal(run, stage, face_counts(run, planned=True)) is None:
            refusal = _refusal(run, stage, counts)
            if refusal is not None:
                raise refusal


def _refusal(run: Run, stage: Stage[Unit], counts: Mapping[str, int]) -> ConfigError | None:
    try:
        stage.check_faces(run, counts)
    except ConfigError as refusal:
        return refusal
    except USER_ERRORS:  # about something else
        return None
    return None
