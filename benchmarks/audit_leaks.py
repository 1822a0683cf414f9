"""Planted leaks: how many does the audit find, and how many faces of strangers does it take for leaks?

    python -m benchmarks.audit_leaks FACES WEIGHTS

FACES is a folder of identity folders of aligned crops, WEIGHTS a recognition net. Its people are split by the seed into
those trained on, a control group for the thresholds, and strangers. The set under audit has 10,000 images: 1,000 are
real training images, changed in one of the ways below and spread among the others; 9,000 are stand-ins for synthetic
faces, blends of two strangers each. False alarms are counted on the strangers' own faces, unchanged.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from cemiface.recognition import Embedder, load_recognition
from shards.audit import Thresholds, leaks_of
from shards.findings import Findings, Suspects, search
from shards.images import ImageRules, prepare
from shards.jpeg import decode_rgb, encode_jpeg
from shards.references import References, centers_of, hashes_of, mirror_invariant
from shards.sources import open_source

SHARES = {"trained": 0.6, "control": 0.2, "strangers": 0.2}  # of the people
PART = 2000  # references shown at once
SYNTHETIC_PER_IDENTITY = 50


def cropped(face: Image.Image) -> Image.Image:
    """The inner 90 %, enlarged again."""
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
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    judge = load_recognition(options.weights)
    groups = split(options.faces, size=options.size, seed=options.seed)
    report(groups, judge=judge, options=options)


def split(root: Path, *, size: int, seed: int) -> dict[str, dict[str, tuple[str, np.ndarray]]]:
    """By group, then by image: identity and pixels."""
    source = open_source(root)
    faces = source.listing().faces
    people = sorted({face.identity for face in faces})
    random.Random(seed).shuffle(people)
    ends = np.cumsum([round(share * len(people)) for share in SHARES.values()])
    group_of = {
        person: list(SHARES)[min(int(np.searchsorted(ends, row, "right")), len(SHARES) - 1)]
        for row, person in enumerate(people)
    }
    groups: dict[str, dict[str, tuple[str, np.ndarray]]] = {group: {} for group in SHARES}
    for face in faces:
        jpeg = prepare(source.read(face), rules=ImageRules(size=size, resize="center")).jpeg
        if jpeg is not None:
            groups[group_of[face.identity]][face.path] = (face.identity, decode_rgb(jpeg))
    return groups


def report(
    groups: dict[str, dict[str, tuple[str, np.ndarray]]], *, judge: Embedder, options: argparse.Namespace
) -> None:
    started = time.process_time()
    trained = references(groups["trained"], judge=judge)
    centers = centers_of([trained])
    parts = list(in_parts(trained))
    print(
        f"{len(trained.keys)} real training images of {len(centers.keys)} people; embedded with {options.weights.name}"
    )

    def found(keys: list[str], identities: list[str], images: list[np.ndarray]) -> Findings:
        features = embedded(images, judge=judge)
        own = Suspects.of(keys, identities=identities, features=features, images=images)
        return search(own, parts, centers=centers, probes=centers.features[:0])

    control = found(*columns(groups["control"]))
    thresholds = Thresholds.from_control(control, rate=options.false_alarms)
    print(f"thresholds: {thresholds}")

    keys, identities, images = planted_set(groups, options=options)
    dropped = {leak.key for leak in leaks_of(found(keys, identities, images), thresholds)}
    for way in WAYS:
        planted = [key for key in keys if key.startswith(f"{way}/")]
        print(f"{way:>24}: {sum(key in dropped for key in planted)} of {len(planted)} found")
    for name, ways in (("must all be found", ALWAYS_FOUND), ("others", set(WAYS) - set(ALWAYS_FOUND))):
        planted = [key for key in keys if key.partition("/")[0] in ways]
        share = sum(key in dropped for key in planted) / len(planted)
        print(f"{name:>24}: {share:.2%} found")
    blends = [key for key in keys if key.startswith("blend/")]
    print(f"{'blends of strangers':>24}: {sum(key in dropped for key in blends)} of {len(blends)} dropped")
    strangers = columns(groups["strangers"])
    alarms = {leak.key for leak in leaks_of(found(*strangers), thresholds)}
    print(f"{'faces of strangers':>24}: {len(alarms) / len(strangers[0]):.2%} of {len(strangers[0])} taken for leaks")
    print(f"{time.process_time() - started:.0f} s of CPU time")


def planted_set(
    groups: dict[str, dict[str, tuple[str, np.ndarray]]], *, options: argparse.Namespace
) -> tuple[list[str], list[str], list[np.ndarray]]:
    """Keys, identities and pixels as decoded from the JPEG that would be published."""
    draw = random.Random(options.seed + 1)
    rows: list[tuple[str, np.ndarray]] = []
    sources = draw.sample(sorted(groups["trained"]), options.planted)
    for number, path in enumerate(sources):
        way = list(WAYS)[number % len(WAYS)]
        rows.append((f"{way}/{number}", np.asarray(WAYS[way](Image.fromarray(groups["trained"][path][1])))))
    strangers = sorted(groups["strangers"])
    for number in range(options.images - options.planted):
        first, second = draw.sample(strangers, 2)
        blend = (groups["strangers"][first][1].astype(np.uint16) + groups["strangers"][second][1]) // 2
        rows.append((f"blend/{number}", blend.astype(np.uint8)))
    draw.shuffle(rows)
    exact = [rgb if key.startswith("exact/") else decode_rgb(encode_jpeg(rgb, quality=95)) for key, rgb in rows]
    identities = [f"synthetic-{number // SYNTHETIC_PER_IDENTITY:06d}" for number in range(len(rows))]
    return [key for key, _ in rows], identities, exact


def columns(group: dict[str, tuple[str, np.ndarray]]) -> tuple[list[str], list[str], list[np.ndarray]]:
    keys = sorted(group)
    return keys, [group[key][0] for key in keys], [group[key][1] for key in keys]


def references(group: dict[str, tuple[str, np.ndarray]], *, judge: Embedder) -> References:
    keys, identities, images = columns(group)
    exact, near = hashes_of(images)
    features = embedded(images, judge=judge)
    return References(keys=keys, identities=identities, features=features, exact=exact, near=near)


def in_parts(whole: References) -> Iterator[References]:
    for first in range(0, len(whole.keys), PART):
        rows = slice(first, first + PART)
        yield References(**{name: value[rows] for name, value in vars(whole).items()})


def embedded(images: Sequence[np.ndarray], *, judge: Embedder, batch: int = 64) -> np.ndarray:
    """Unit embeddings of the images together with their mirror images."""
    plain, mirrored = [], []
    with torch.inference_mode():
        for first in range(0, len(images), batch):
            x = torch.from_numpy(np.stack(images[first : first + batch])).permute(0, 3, 1, 2).float() / 127.5 - 1
            plain.append(judge(x).numpy())
            mirrored.append(judge(x.flip(3)).numpy())
    return mirror_invariant(np.concatenate(plain), np.concatenate(mirrored))


if __name__ == "__main__":
    main()
