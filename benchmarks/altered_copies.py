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

from benchmarks.audit_leaks import embedded
from cemiface.recognition.nets import Embedder, load_recognition
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.privacy.copies.alterations import ALTERATIONS, altered
from shards.privacy.copies.model import CopyModel
from shards.privacy.copies.pictures import gray_pictures
from shards.privacy.copies.scores import CopyScores
from shards.privacy.copies.search import CopySearch
from shards.privacy.findings import Findings
from shards.privacy.fingerprints import Fingerprints, Vectors, centers_of, hashes_of
from shards.privacy.intervals import wilson
from shards.privacy.leaks import Reason
from shards.privacy.search import search, search_control_group
from shards.privacy.synthetic_faces import SyntheticFaces
from shards.privacy.thresholds import Thresholds, leaks_of

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("list", type=Path)
    parser.add_argument("--net", type=Path, help="recognition net, for the gate without and with the search for copies")
    parser.add_argument(
        "--features", type=Path, help="file (.npy) that keeps the references' embeddings for later calls"
    )
    parser.add_argument("--size", type=int, default=32, help="side of the images (default: 32)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--control", type=int, default=1500, help="faces that set the thresholds (default: 1,500)")
    parser.add_argument("--strangers", type=int, default=2000, help="faces for false alarms (default: 2,000)")
    parser.add_argument("--copies", type=int, default=100, help="of each alteration (default: 100)")
    parser.add_argument("--rate", type=float, default=0.005, help="false alarms that are allowed (default: 0.005)")
    parser.add_argument("--json", type=Path, help="file for the counts of each seed")
    options = parser.parse_args()
    faces = read_faces(options.faces, size=options.size)
    named = {line.split("\t")[1].strip() for line in options.list.read_text().splitlines()[1:]}
    people = {path.split("/")[-2] for path in named}
    others = faces.of([row for row, person in enumerate(faces.people) if person not in people])
    references = faces.of([row for row, path in enumerate(faces.paths) if path in named])
    net = load_recognition(options.net) if options.net else None
    gate = Gate(references, net=net, features=options.features)
    print(
        f"{len(references.paths)} references, {len(others.paths)} others; {len(gate.model.owner)} templates", flush=True
    )
    others_scores = gate.copy_scores(others)
    results = []
    for seed in options.seeds:
        results.append(measured(gate, references, others, others_scores, seed=seed, options=options))
        if options.json:
            options.json.write_text(json.dumps(results))
        report(results)


class Gate:
    """The audit's comparisons with the references: by small pictures, and, with a net, by embeddings and hashes."""

    def __init__(self, references: Faces, *, net: Embedder | None, features: Path | None) -> None:
        self.net = net
        started = time.process_time()
        pictures = gray_pictures(references.images)
        self.model = CopyModel(pictures)
        print(f"model: {time.process_time() - started:.0f} CPU seconds", flush=True)
        exact, near = hashes_of(references.images)
        known = features is not None and features.exists()
        own = np.load(features) if known else self._features(references.images)
        if features is not None and not known:
            np.save(features, own)
        self.references = Fingerprints(
            keys=references.paths,
            identities=references.people,
            features=own,
            exact=exact,
            near=near,
            pictures=pictures,
        )
        self.centers = centers_of([self.references])

    def findings(self, faces: Faces, *, control: bool = False) -> Findings:
        """What the audit finds about images; each one is an identity of its own."""
        features = self._features(faces.images)
        if control:
            group = Vectors(keys=faces.paths, identities=faces.people, features=features)
            found = search_control_group(group, [self.references], centers=self.centers)
        else:
            own = SyntheticFaces.of(faces.paths, identities=faces.paths, features=features, images=faces.images)
            found = search(own, [self.references], centers=self.centers, probes=features[:0])
        return found

    def copy_scores(self, faces: Faces) -> CopyScores:
        """Scores as altered copies, in one pass over the references."""
        started = time.process_time()
        copies = CopySearch(self.model, gray_pictures(faces.images))
        copies.add(self.references)
        scores = copies.scores(faces.paths)
        seconds = (time.process_time() - started) / len(faces.paths)
        print(f"{seconds:.3f} CPU seconds per picture for the search for copies", flush=True)
        return scores

    def _features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Embeddings; random ones without a net."""
        if self.net is not None:
            return embedded(images, net=self.net)
        features = np.random.default_rng(len(images)).normal(size=(len(images), 64)).astype(np.float32)
        unit: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
        return unit


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
    gate: Gate, references: Faces, others: Faces, scores: CopyScores, *, seed: int, options: argparse.Namespace
) -> dict[str, object]:
    """Counts of one seed, found by each gate and tried, by alteration; and alarms on strangers.

    Args:
        scores: of the others.
    """
    draw = random.Random(seed)
    people = sorted(set(others.people))
    draw.shuffle(people)
    group = set(people[: round(len(people) * options.control / (options.control + options.strangers))])
    rows = list(range(len(others.paths)))
    draw.shuffle(rows)
    in_control = [row for row in rows if others.people[row] in group][: options.control]
    no_control = [row for row in rows if others.people[row] not in group][: options.strangers]
    strangers = others.of(no_control)
    smooth = strangers.of(range(min(150, len(strangers.paths))))
    groups = {"blurred strangers": changed(smooth, [SMOOTH[row % 3] for row in range(len(smooth.paths))])}
    for name in ALTERATIONS:
        own = references.of(draw.sample(range(len(references.paths)), options.copies))
        groups[name] = changed(own, [name] * len(own.paths))
    own = references.of(draw.sample(range(len(references.paths)), options.copies))
    pairs = zip(own.images, draw.sample(others.images, options.copies), strict=True)
    morphs = [saved(((one.astype(np.uint16) + other + 1) // 2).astype(np.uint8)) for one, other in pairs]
    groups[MORPH] = Faces(paths=own.paths, images=morphs)
    everything = Faces(
        paths=[path for faces in groups.values() for path in faces.paths],
        images=[image for faces in groups.values() for image in faces.images],
    )
    of_groups, first = gate.copy_scores(everything), 0
    tried = {"strangers": (strangers, rows_of(scores, no_control))}
    for name, faces in groups.items():
        tried[name] = (faces, of_groups.rows(slice(first, first + len(faces.paths))))
        first += len(faces.paths)
    control = gate.findings(others.of(in_control), control=True).with_copies(rows_of(scores, in_control))
    return {"seed": seed, "size": options.size, "counts": counted(gate, control, tried, seed=seed, rate=options.rate)}


def rows_of(scores: CopyScores, rows: Sequence[int]) -> CopyScores:
    """The scores of some images, in this order."""
    return CopyScores.joined([scores.rows(slice(row, row + 1)) for row in rows])


def counted(
    gate: Gate, control: Findings, tried: dict[str, tuple[Faces, CopyScores]], *, seed: int, rate: float
) -> dict[str, dict[str, int]]:
    """By group how many images were tried, and how many each gate counts as leaks."""
    thresholds = {"after": Thresholds.from_control(control, rate=rate, people="others")}
    if gate.net is not None:
        thresholds["before"] = Thresholds.from_control(control.with_copies(None), rate=rate, people="others")
    counts = {}
    for name, (faces, scores) in tried.items():
        found = gate.findings(faces).with_copies(scores)
        leaks = {gate_name: leaks_of(found, used) for gate_name, used in thresholds.items()}
        leaks["by pictures"] = [leak for leak in leaks["after"] if leak.reason == Reason.ALTERED_COPY]
        counts[name] = {gate_name: len({leak.key for leak in some}) for gate_name, some in leaks.items()}
        counts[name]["tried"] = len(faces.paths)
        print(f"seed {seed}: {name}: {counts[name]}", flush=True)
    return counts


def changed(faces: Faces, alterations: Sequence[str]) -> Faces:
    """The faces altered, each in its way, and saved; exact copies keep their pixels."""
    rows = zip(faces.images, faces.paths, alterations, strict=True)
    images = [rgb if name == "exact" else saved(altered(rgb, name, seed=path)) for rgb, path, name in rows]
    return Faces(paths=faces.paths, images=images)


def report(results: Sequence[dict[str, object]]) -> None:
    """The counts of all seeds together, with their intervals."""
    tables = [result["counts"] for result in results]
    print(f"\n{len(results)} seeds")
    for name, first in tables[0].items():  # type: ignore[attr-defined]
        tried = sum(table[name]["tried"] for table in tables)  # type: ignore[index]
        cells = []
        for gate in first:
            hits = sum(table[name][gate] for table in tables)  # type: ignore[index]
            low, high = wilson(hits, tried)
            cells += [f"{gate}: {hits / tried:.3f} ({low:.3f} to {high:.3f})"] if gate != "tried" else []
        print(f"| {name} | {tried} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
