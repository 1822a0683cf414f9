"""The work of shard: check and convert each image of a list, write it into a tar or count why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.stages.shard.plan import MANIFEST, SOURCE, SYNTHETIC, ShardFaces, ShardUnit, list_name
from jobs.stages.shared.known_early import refuse_now_known
from jobs.stages.shared.tars import publishing_tar
from shards.errors import DataError
from shards.images.faces import Face, Source, UnreadableFaceError
from shards.images.outcomes import Prepared
from shards.images.prepare import Align, prepare
from shards.images.source_mark import says_synthetic
from shards.sources.sources import open_source, read_checked, read_list
from shards.tars.manifest import Manifest, Shard, manifest_bytes
from shards.tars.records import REAL as ORIGIN
from slurm.files import publish, read_json
from slurm.markers import Marker

EXAMPLES = 10  # of images that say that they are synthetic, in the summary


def run_rank(run: Run, rank: Rank) -> None:
    config: ShardFaces = run.section(ShardFaces)
    source = open_source(run.path(config.faces), form=config.format)
    align = _open_aligner(config)
    for work in rank.remaining(ShardUnit):
        faces = read_list(rank.folder.output(list_name(work.unit.tar)), sha256=work.unit.faces)
        _shard(source, faces, work=work, config=config, align=align)


def _open_aligner(config: ShardFaces) -> Align | None:
    if not config.align:
        return None
    # Here, as the runtimes of its nets take seconds to import.
    from jobs.stages.shard.aligning import open_align

    return open_align(config.image_size)


def _shard(
    source: Source, faces: Sequence[Face], *, work: Work[ShardUnit], config: ShardFaces, align: Align | None
) -> None:
    """Write one tar and its index: usable images with their records; the marker lists every other image."""
    name, rules = work.unit.tar, config.rules()
    counts: Counter[str] = Counter()
    rejected, synthetic = [], []
    with publishing_tar(work.path(name), record=work.record, private=True) as tar:
        for index, face in enumerate(faces, start=work.unit.start):
            data = _data(source, face)
            prepared = data if isinstance(data, Prepared) else prepare(data, rules=rules, align=align)
            counts[prepared.outcome] += 1
            work.progress()
            if prepared.jpeg is None:
                rejected.append({"source": face.path, "outcome": prepared.outcome, "detail": prepared.detail})
                continue
            if isinstance(data, bytes) and says_synthetic(data):
                synthetic.append(face.path)
            record = {"identity": face.identity, "source": face.path, "index": index, "outcome": prepared.outcome}
            tar.add(f"{index:09d}", jpg=prepared.jpeg, record=record | {"origin": ORIGIN})
        if len(rejected) > config.max_bad_fraction * len(faces):
            first = "{source}: {outcome}, {detail}".format(**rejected[0])
            raise DataError(
                f"{name}: {len(rejected)} of {len(faces)} images are not usable (first: {first}), "
                f"allowed: a fraction of {config.max_bad_fraction}; fix them or raise shard.max_bad_fraction"
            )
    found = {"images": len(synthetic), "examples": synthetic[:EXAMPLES]}
    work.done(images=tar.samples, counts=dict(counts), figures={"rejected": rejected, SYNTHETIC: found})


def _data(source: Source, face: Face) -> bytes | Prepared:
    """The file, or its outcome if it cannot be read."""
    try:
        return read_checked(source, face)
    except UnreadableFaceError as error:
        return Prepared(outcome=error.outcome, detail=error.detail)


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """Count what was passed over while listing, so that the counts add up to everything in the source; manifest.

    Raises:
        ConfigError: a later stage cannot do its work on the images that are there.
    """
    folder = run.stage_folder("shard")
    refuse_now_known(run, _images_by_tar(markers))
    figures = read_json(folder.output(SOURCE))
    written = publish(folder.output(MANIFEST), manifest_bytes(_manifest(markers)), replace=True)
    return Finish(
        counts=figures.pop("skipped"),
        outputs=(written,),
        figures={
            **figures,
            "rejected": [line for marker in markers for line in marker.figures["rejected"]],
            SYNTHETIC: _synthetic(markers),
        },
    )


def _synthetic(markers: Sequence[Marker]) -> dict[str, Any]:
    """How many images say that they are synthetic, and some of them; markers of older versions do not tell."""
    found = [marker.figures[SYNTHETIC] for marker in markers if SYNTHETIC in marker.figures]
    examples = [path for one in found for path in one["examples"]]
    return {"images": sum(one["images"] for one in found), "examples": examples[:EXAMPLES]}


def _images_by_tar(markers: Sequence[Marker]) -> dict[str, int]:
    return {one.name: marker.images for marker in markers for one in marker.outputs if one.name.endswith(".tar")}


def _manifest(markers: Sequence[Marker]) -> Manifest:
    """The real set's files, marked private."""
    shards = [
        Shard(name=output.name, bytes=output.bytes, sha256=output.sha256, samples=marker.images)
        for marker in markers
        for output in marker.outputs
        if output.name.endswith(".tar")
    ]
    return Manifest.of(shards, private=True)
