"""Peak memory and time of an audit of a million images against a million; the limit is 2 GB.

    python -m benchmarks.audit_memory [--queries 1000000 --references 1000000 --width 512 --units 1] [--thorough]

Embeddings and hashes are simulated: drawn per tar from (seed, tar), as the audit would read them from disk. One unit of
work is one synthetic tar of 10,000 images, compared with all references, tar by tar, by the function that the audit
stage calls. The result of a unit is written to disk, so memory does not depend on the number of units and --units 1
shows the peak. The time of all units is estimated before the start and again after each unit. With --thorough,
altered copies are searched for too, which takes 0.14 CPU seconds per image and 10,000 references.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator

import numpy as np

from shards.embeddings.nearest import pairs_per_second
from shards.privacy.copies.model import CopyModel
from shards.privacy.copies.search import CopySearch
from shards.privacy.fingerprints import Fingerprints, Vectors
from shards.privacy.search import search
from shards.privacy.synthetic_faces import SyntheticFaces
from shards.privacy.thresholds import Thresholds, leaks_of

TAR = 10_000  # images
IMAGES_PER_IDENTITY = 50
HASH_WIDTH = 2 * 256  # hashes are compared like embeddings, mirrored and not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--references", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--units", type=int, default=1, help="synthetic tars to do, of queries / 10,000 (default: 1)")
    parser.add_argument("--thorough", action="store_true", help="search for altered copies too")
    options = parser.parse_args()
    model = CopyModel(pictures(TAR, seed=0)) if options.thorough else None
    pairs = options.queries * options.references
    rate = pairs_per_second(options.width + HASH_WIDTH)
    print(f"{pairs:,} pairs of width {options.width}: about {pairs / rate / 3600:.2f} h of one process")
    identities = options.references // IMAGES_PER_IDENTITY
    centers = Vectors(keys=names("p", identities), identities=[], features=unit(identities, options.width, seed=0))
    started, leaks = time.monotonic(), 0
    thresholds = Thresholds(
        image_to_face=0.9, image_to_center=0.9, identity_to_face=0.9, identity_to_center=0.9, basis="simulated"
    )
    for number in range(min(options.units, -(-options.queries // TAR))):
        count = min(TAR, options.queries - number * TAR)
        suspects = simulated_suspects(count, options.width, seed=number)
        parts = references(options.references, options.width, pictured=options.thorough)
        copies = CopySearch(model, pictures(count, seed=number)) if model else None
        found = search(suspects, parts, centers=centers, probes=suspects.features[:0], copies=copies)
        json.dumps(found.as_json())  # as the stage writes it
        leaks += len(leaks_of(found, thresholds))
        seconds, done = time.monotonic() - started, (number + 1) * count * options.references
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"unit {number}: peak {peak:.2f} GB, {leaks} leaks, all would take {seconds * pairs / done / 3600:.2f} h")
    cpu = time.process_time()
    print(f"{cpu:.0f} s of CPU time; below 2 GB: {'yes' if peak < 2 else 'no'}")


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:09d}" for number in range(count)]


def unit(count: int, width: int, *, seed: int) -> np.ndarray:
    features = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def hashes(count: int, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)


def simulated_suspects(count: int, width: int, *, seed: int) -> SyntheticFaces:
    rows = 4 * [seed * 10]
    exact, exact_mirrored, near, near_mirrored = (hashes(count, seed=row + place) for place, row in enumerate(rows))
    return SyntheticFaces(
        keys=names(f"s{seed}-", count),
        identities=[f"new-{row // IMAGES_PER_IDENTITY}" for row in range(count)],
        features=unit(count, width, seed=10**6 + seed),
        exact=exact,
        exact_mirrored=exact_mirrored,
        near=near,
        near_mirrored=near_mirrored,
    )


def pictures(count: int, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1024), np.uint8)


def references(count: int, width: int, *, pictured: bool) -> Iterator[Fingerprints]:
    for number in range(-(-count // TAR)):
        rows = min(TAR, count - number * TAR)
        keys = names(f"r{number}-", rows)
        seed = 10**9 + number
        yield Fingerprints(
            keys=keys,
            identities=keys,
            features=unit(rows, width, seed=seed),
            exact=hashes(rows, seed=seed),
            near=hashes(rows, seed=seed + 10**8),
            pictures=pictures(rows if pictured else 0, seed=seed),
        )


if __name__ == "__main__":
    main()
