"""Planted leaks: how many the audit finds, and how many faces of strangers it counts as leaks.

    python -m benchmarks.audit_leaks FACES WEIGHTS

FACES is a folder of identity folders with aligned crops, WEIGHTS a recognition net. The seed splits the people into
training people, a control group for the thresholds, and strangers. The audited set has 10,000 images: 1,000 are real
training images, each changed in one of the ways below; 9,000 stand in for synthetic faces, each a blend of two
strangers. False alarms are counted on the unchanged faces of the strangers. Several seeds show how much a figure
depends on the split.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from cemiface.recognition.nets import Embedder, load_recognition
from shards.images.jpeg import decode_rgb, encode_jpeg
from shards.images.prepare import prepare
from shards.images.rules import ImageRules
from shards.privacy.findings import Findings
from shards.privacy.fingerprints import Fingerprints, centers_of, hashes_of, mirror_invariant
from shards.privacy.search import search, search_control_group
from shards.privacy.synthetic_faces import SyntheticFaces
from shards.privacy.thresholds import Thresholds, leaks_of
from shards.sources.sources import open_source

SHARES = {"trained": 0.6, "control": 0.2, "strangers": 0.2}  # of the people
PART = 2000  # references compared at once
SYNTHETIC_PER_IDENTITY = 50


@dataclass(frozen=True, kw_only=True)
class Faces:
    """N images: names, pixels and unit embeddings under the audit's net (N, D)."""

    keys: list[str]
    identities: list[str]
    images: list[np.ndarray]
    features: np.ndarray

    def of(self, rows: Sequence[int]) -> Faces:
        return Faces(
            keys=[self.keys[row] for row in rows],
            identities=[self.identities[row] for row in rows],
            images=[self.images[row] for row in rows],
            features=self.features[list(rows)],
        )

    def suspects(self) -> SyntheticFaces:
        return SyntheticFaces.of(self.keys, identities=self.identities, features=self.features, images=self.images)

    def references(self) -> Fingerprints:
        exact, near = hashes_of(self.images)
        return Fingerprints(keys=self.keys, identities=self.identities, features=self.features, exact=exact, near=near)


def cropped(face: Image.Image) -> Image.Image:
    """The inner 90 %, enlarged to the full size."""
    edge = round(face.width * 0.05)
    return face.crop((edge, edge, face.width - edge, face.height - edge)).resize(face.size, Image.Resampling.BICUBIC)


def reencoded(face: Image.Image, quality: int = 60) -> Image.Image:
    buffer = io.BytesIO()
    face.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda face: face,
    "re-encoded": reencoded,
    "mirrored": lambda face: face.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and re-encoded": lambda face: reencoded(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "cropped": cropped,
    "blurred": lambda face: face.filter(ImageFilter.GaussianBlur(face.width / 75)),
    "brightened": lambda face: ImageEnhance.Brightness(face).enhance(1.3),
}
ALWAYS_FOUND = ("exact", "re-encoded", "mirrored", "mirrored and re-encoded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--size", type=int, default=112, help="side of the crops (default: 112)")
    parser.add_argument("--images", type=int, default=10_000, help="of the set under audit (default: 10,000)")
    parser.add_argument("--planted", type=int, default=1000, help="of them real (default: 1,000)")
    parser.add_argument("--false-alarms", type=float, default=0.005, help="what the threshold allows (default: 0.005)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one split and one set each (default: 1)")
    options = parser.parse_args()
    net = load_recognition(options.weights)
    faces = read_faces(options.faces, size=options.size, net=net)
    print(f"{len(faces.keys)} images of {len(set(faces.identities))} people; embedded with {options.weights.name}")
    for seed in options.seeds:
        report(split(faces, seed=seed), net=net, seed=seed, options=options)
        print(f"{time.process_time():.0f} s of CPU time so far", flush=True)


def read_faces(root: Path, *, size: int, net: Embedder) -> Faces:
    """Every readable image, in order of its path."""
    source, rules = open_source(root), ImageRules(size=size, resize="center")
    found = [
        (face.path, face.identity, decode_rgb(jpeg))
        for face in sorted(source.listing().faces, key=lambda face: face.path)
        if (jpeg := prepare(source.read(face), rules=rules).jpeg) is not None
    ]
    keys, identities, images = (list(column) for column in zip(*found, strict=True))
    return Faces(keys=keys, identities=identities, images=images, features=embedded(images, net=net))


def split(faces: Faces, *, seed: int) -> dict[str, Faces]:
    """The faces by group; a person is in one of them."""
    people = sorted(set(faces.identities))
    random.Random(seed).shuffle(people)
    ends = np.cumsum([round(share * len(people)) for share in SHARES.values()])
    group_of = {
        person: list(SHARES)[min(int(np.searchsorted(ends, row, "right")), len(SHARES) - 1)]
        for row, person in enumerate(people)
    }
    return {
        group: faces.of([row for row, person in enumerate(faces.identities) if group_of[person] == group])
        for group in SHARES
    }


def report(groups: dict[str, Faces], *, net: Embedder, seed: int, options: argparse.Namespace) -> None:
    """Audit one planted set, and print what was found."""
    trained = groups["trained"].references()
    centers = centers_of([trained])
    parts = list(in_parts(trained))

    def found(faces: Faces) -> Findings:
        return search(faces.suspects(), parts, centers=centers, probes=centers.features[:0])

    print(f"\nseed {seed}: {len(trained.keys)} real training images of {len(centers.keys)} people")
    control = search_control_group(groups["control"].references(), parts, centers=centers)
    thresholds = Thresholds.from_control(control, rate=options.false_alarms, people="people in no group")
    print(thresholds)
    planted = planted_set(groups, seed=seed, net=net, options=options)
    dropped = {leak.key for leak in leaks_of(found(planted), thresholds)}

    def print_found(name: str, ways: Sequence[str]) -> None:
        keys = [key for key in planted.keys if key.partition("/")[0] in ways]
        print(f"{name:>24}: {sum(key in dropped for key in keys)} of {len(keys)} found")

    for way in WAYS:
        print_found(way, [way])
    print_found("must all be found", ALWAYS_FOUND)
    print_found("others", [way for way in WAYS if way not in ALWAYS_FOUND])
    print_found("blends of strangers", ["blend"])
    strangers = groups["strangers"]
    alarms = {leak.key for leak in leaks_of(found(strangers), thresholds)}
    share = len(alarms) / len(strangers.keys)
    print(f"{'faces of strangers':>24}: {share:.2%} of {len(strangers.keys)} counted as leaks", flush=True)


def planted_set(groups: dict[str, Faces], *, seed: int, net: Embedder, options: argparse.Namespace) -> Faces:
    """Pixels as decoded from the JPEG that would be published."""
    draw = random.Random(seed + 1)
    trained, strangers = groups["trained"].images, groups["strangers"].images
    rows: list[tuple[str, np.ndarray]] = []
    for number, source in enumerate(draw.sample(range(len(trained)), options.planted)):
        way = list(WAYS)[number % len(WAYS)]
        rows.append((f"{way}/{number}", np.asarray(WAYS[way](Image.fromarray(trained[source])))))
    for number in range(options.images - options.planted):
        first, second = draw.sample(range(len(strangers)), 2)
        blend = (strangers[first].astype(np.uint16) + strangers[second]) // 2
        rows.append((f"blend/{number}", blend.astype(np.uint8)))
    draw.shuffle(rows)
    images = [rgb if key.startswith("exact/") else decode_rgb(encode_jpeg(rgb, quality=95)) for key, rgb in rows]
    identities = [f"synthetic-{number // SYNTHETIC_PER_IDENTITY:06d}" for number in range(len(rows))]
    keys = [key for key, _ in rows]
    return Faces(keys=keys, identities=identities, images=images, features=embedded(images, net=net))


def in_parts(whole: Fingerprints) -> Iterator[Fingerprints]:
    for first in range(0, len(whole.keys), PART):
        rows = slice(first, first + PART)
        yield Fingerprints(**{name: value[rows] for name, value in vars(whole).items()})


def embedded(images: Sequence[np.ndarray], *, net: Embedder, batch: int = 64) -> np.ndarray:
    """Unit embeddings of the images together with their mirror images."""
    plain, mirrored = [], []
    with torch.inference_mode():
        for first in range(0, len(images), batch):
            x = torch.from_numpy(np.stack(images[first : first + batch])).permute(0, 3, 1, 2).float() / 127.5 - 1
            plain.append(net(x).numpy())
            mirrored.append(net(x.flip(3)).numpy())
    return mirror_invariant(np.concatenate(plain), np.concatenate(mirrored))


if __name__ == "__main__":
    main()
