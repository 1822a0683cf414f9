"""How real faces are split: into training, held-out and kept-back images, and into tars. All draws follow the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from jobs.frame.seeds import derive
from shards.images.faces import Face


def held_out_identities(faces: Sequence[Face], *, count: int, seed: int) -> set[str]:
    """`count` identities that no net is trained on."""
    return set(random.Random(derive(seed, "held-out")).sample(sorted({face.identity for face in faces}), count))


def kept_back_places(training: Sequence[Face], *, fraction: float, seed: int) -> set[tuple[str, str]]:
    """Path and location of the images of training identities that no net is trained on: a fraction of each identity's.

    The path alone may be that of several images, as a tar may hold a name twice.
    """
    if not fraction:
        return set()
    images: dict[str, list[tuple[str, str]]] = {}
    for face in training:
        images.setdefault(face.identity, []).append(place_of(face))
    chosen: set[tuple[str, str]] = set()
    for number, identity in enumerate(sorted(images)):
        count = int(fraction * len(images[identity]))
        chosen.update(random.Random(derive(seed, "kept-back", number)).sample(images[identity], count))
    return chosen


def place_of(face: Face) -> tuple[str, str]:
    """What no other image of a source has in common with this one."""
    return face.path, face.location


def slices(faces: Sequence[Face], *, images: int, size: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of at most `images` images and `size` bytes, each of at least one image."""
    start, total = 0, 0
    for position, face in enumerate(faces):
        if position > start and (position - start == images or total + face.bytes > size):
            yield start, position
            start, total = position, 0
        total += face.bytes
    if start < len(faces):
        yield start, len(faces)
