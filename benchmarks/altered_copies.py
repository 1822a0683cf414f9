"""Recall of the audit on altered copies of real faces, and how many strangers it counts as copies.

    python -m benchmarks.altered_copies FACES.tar LIST.tsv [--net WEIGHTS] --size 32 --seeds 1 2 3

FACES is a tar of aligned crops, `<set>/<person>/<image>.jpg`; LIST names the references, a path in its second column.
People that LIST does not name are strangers: the seed splits them into a control group, which sets the thresholds, and
those on whom false alarms are counted, so no person is in two groups. Copies are altered references, saved as JPEG
with quality 95. Intervals are Wilson's, at 95 %. With --net, the gate without the search for copies is measured too
(embeddings and hashes), and then the whole gate.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.privacy.copies.alterations import ALTERATIONS, altered
from shards.privacy.copies.model import CopyModel
from shards.privacy.copies.pictures import gray_pictures
from shards.privacy.copies.scores import CopyControl, CopyScores
from shards.privacy.copies.search import CopySearch
from shards.privacy.intervals import wilson

MORPH = "blend with a stranger"
SMOOTH = ("blurred by 1/32", "blurred by 2/32", "blurred by 3/32")


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Images by path, and who is in them."""

    paths: list[str]
    images: list[np.ndarray]

    def of(self, rows: Sequence[int]) -> Faces:
        return Faces(paths=[self.paths[row] for row in rows], images=[self.images[row] for row in rows])

    @property
    def people(self) -> list[str]:
        return [path.split("/")[-2] for path in self.paths]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the search needs of the references."""

    keys: list[str]
    identities: list[str]
    pictures: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("list", type=Path)
    parser.add_argument("--size", type=int, default=32, help="side of the images (default: 32)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--control", type=int, default=1500, help="faces that set the thresholds (default: 1,500)")
    parser.add_argument("--strangers", type=int, default=2000, help="faces for false alarms (default: 2,000)")
    parser.add_argument("--copies", type=int, default=100, help="of each alteration (default: 100)")
    parser.add_argument("--rate", type=float, default=0.005, help="false alarms that are allowed (default: 0.005)")
    parser.add_argument("--json", type=Path, help="file for the counts and scores of each seed")
    options = parser.parse_args()
    faces = read_faces(options.faces, size=options.size)
    named = {line.split("\t")[1].strip() for line in options.list.read_text().splitlines()[1:]}
    people = {path.split("/")[-2] for path in named}
    references = faces.of([row for row, path in enumerate(faces.paths) if path in named])
    others = faces.of([row for row, person in enumerate(faces.people) if person not in people])
    started = time.process_time()
    pictures = gray_pictures(references.images)
    model = CopyModel(pictures)
    print(f"{len(references.paths)} references, {len(others.paths)} others; {len(model.owner)} templates")
    print(f"model: {time.process_time() - started:.0f} CPU seconds", flush=True)
    results = []
    for seed in options.seeds:
        results.append(measured(model, pictures, references, others, seed=seed, options=options))
        if options.json:
            options.json.write_text(json.dumps(results))
        report(results)


def read_faces(path: Path, *, size: int) -> Faces:
    """Every image of the tar, decoded; resized and saved again with quality 95 where it has another size."""
    paths, images = [], []
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".jpg") else None
            if file is not None:
                image = Image.open(io.BytesIO(file.read())).convert("RGB")
                if image.width != size:
                    image = Image.fromarray(saved(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))))
                paths.append(member.name)
                images.append(np.asarray(image))
    return Faces(paths=paths, images=images)


def saved(rgb: np.ndarray) -> np.ndarray:
    """The image as it is decoded from a JPEG of quality 95."""
    return decode_rgb(encode_jpeg(np.ascontiguousarray(rgb), quality=95))


def measured(
    model: CopyModel, pictures: np.ndarray, references: Faces, others: Faces, *, seed: int, options: argparse.Namespace
) -> dict[str, object]:
    """Counts of one seed: found and tried, by alteration, and alarms on strangers."""
    draw = random.Random(seed)
    people = sorted(set(others.people))
    draw.shuffle(people)
    half = set(people[: round(len(people) * options.control / (options.control + options.strangers))])
    rows = list(range(len(others.paths)))
    draw.shuffle(rows)
    control = others.of([row for row in rows if others.people[row] in half][: options.control])
    strangers = others.of([row for row in rows if others.people[row] not in half][: options.strangers])
    started = time.process_time()
    keys = references.paths

    def scores(images: Sequence[np.ndarray], names: Sequence[str]) -> CopyScores:
        search = CopySearch(model, gray_pictures(images))
        search.add(Pictures(keys=keys, identities=references.people, pictures=pictures))
        return search.scores(names)

    found = scores(control.images, control.paths)
    kept = {"control": found.scores}
    allowed = int(options.rate * len(control.paths))
    thresholds = CopyControl(found).thresholds(allowed)
    counts: dict[str, tuple[int, int]] = {}
    others_found = scores(strangers.images, strangers.paths)
    kept["strangers"] = others_found.scores
    alarms = {key for key, _, _ in others_found.reached(thresholds)}
    counts["strangers"] = len(alarms), len(strangers.paths)
    smooth = strangers.of(range(min(150, len(strangers.paths))))
    images = [saved(altered(rgb, SMOOTH[row % 3], seed=str(row))) for row, rgb in enumerate(smooth.images)]
    smooth_alarms = {key for key, _, _ in scores(images, smooth.paths).reached(thresholds)}
    counts["blurred strangers"] = len(smooth_alarms), len(images)
    queries = len(control.paths) + len(strangers.paths) + len(images)
    for name in (*ALTERATIONS, MORPH):
        chosen = draw.sample(range(len(keys)), options.copies)
        own = references.of(chosen)
        if name == MORPH:
            pairs = zip(own.images, draw.sample(others.images, len(chosen)), strict=True)
            images = [((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8) for a, b in pairs]
        else:
            images = [altered(rgb, name, seed=path) for rgb, path in zip(own.images, own.paths, strict=True)]
        copies_found = scores([saved(rgb) for rgb in images], own.paths)
        kept[name] = copies_found.scores
        hits = {key for key, _, _ in copies_found.reached(thresholds)}
        counts[name] = len(hits), len(chosen)
        queries += len(chosen)
        print(f"seed {seed}: {name}: {counts[name]}", flush=True)
    seconds = (time.process_time() - started) / queries
    print(f"seed {seed}: {seconds:.3f} CPU seconds per picture", flush=True)
    return {"seed": seed, "size": options.size, "counts": counts, "seconds": seconds, "scores": kept}


def report(results: Sequence[dict[str, object]]) -> None:
    """The counts of all seeds together, with their intervals."""
    print(f"\n{len(results)} seeds")
    for name in results[0]["counts"]:  # type: ignore[attr-defined]
        found, tried = (sum(result["counts"][name][place] for result in results) for place in (0, 1))  # type: ignore[index]
        low, high = wilson(found, tried)
        print(f"| {name} | {found} of {tried} | {found / tried:.3f} | {low:.3f} to {high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
