"""Figures of an audit: leaks by what was asked and by false match rate, closest pairs, membership, overlap."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jobs.frame.products import CENTERS, KEPT_BACK, PROBES, TRAINED
from jobs.frame.run import Run
from jobs.frame.verdicts import recorded_vectors
from jobs.report.real_images import RealImages
from shards.embeddings.nearest import NearestSearch
from shards.images.jpeg import encode_jpeg
from shards.privacy.findings import Findings
from shards.privacy.leaks import Leak, worst_leaks
from shards.privacy.membership import membership
from shards.privacy.thresholds import Thresholds, leaks_of
from shards.privacy.verdict import Verdict
from shards.tars.records import Asked, Groups
from shards.tars.shard_set import ShardSet

CLOSEST = 24  # pairs of either kind, dropped and kept, that are shown

SHEET_COLUMNS = 6  # pairs side by side


class Tally:
    """Goes through the findings of the synthetic tars one by one; memory grows with the leaks, not with the set."""

    def __init__(self, thresholds: Thresholds, *, rates: Mapping[float, float]) -> None:
        """Args: rates: false match rate and the cosine that it belongs to."""
        self.thresholds, self.rates = thresholds, rates
        self.images, self.references = 0, 0
        self.leaks: list[Leak] = []
        self.dropped: set[str] = set()
        self._rows: Counter[tuple[str, float | str]] = Counter()  # images by key and value asked for
        self._dropped_rows: Counter[tuple[str, float | str]] = Counter()
        self._close_rows: dict[float, Counter[tuple[str, float | str]]] = {rate: Counter() for rate in rates}
        self._close = dict.fromkeys(rates, 0)
        self._closest: list[tuple[float, str, str]] = []
        self._probes: list[Sequence[float]] = []

    def add(self, findings: Findings, *, asked: Sequence[Asked]) -> None:
        """Take the findings of one tar into account; `asked` holds the requested values of each image."""
        leaks = leaks_of(findings, self.thresholds)
        dropped = {leak.key for leak in leaks}
        self.leaks += leaks
        self.dropped |= dropped
        self.images += len(asked)
        self.references = findings.references
        self._probes.append(findings.probes)
        images = findings.images
        for key, real, cosine, values in zip(images.names, images.face, images.face_cosine, asked, strict=True):
            rows = list(values.items())
            self._rows.update(rows)
            self._dropped_rows.update(rows if key in dropped else [])
            for rate, threshold in self.rates.items():
                if cosine >= threshold:
                    self._close[rate] += 1
                    self._close_rows[rate].update(rows)
            if key not in dropped:
                keep = heapq.heappush if len(self._closest) < CLOSEST else heapq.heappushpop
                keep(self._closest, (cosine, key, real))

    def figures(self, run: Run) -> dict[str, Any]:
        """Everything measured beside the leaks, JSON-ready."""
        return {
            "leak_rate_by": self.leak_rates,
            "by_false_match_rate": [
                {
                    "fmr": rate,
                    "threshold": round(threshold, 4),
                    "images": self._close[rate],
                    "rate_by": self._rates(self._close_rows[rate]),
                }
                for rate, threshold in self.rates.items()
            ],
            "closest": [
                {"key": key, "real": real, "cosine": cosine} for cosine, key, real in sorted(self._closest)[::-1]
            ],
            **self._probed(run),
        }

    @property
    def leak_rates(self) -> dict[str, dict[str, float]]:
        """The share of dropped images by what was asked: by key, then by value."""
        return self._rates(self._dropped_rows)

    def _rates(self, found: Mapping[tuple[str, float | str], int]) -> dict[str, dict[str, float]]:
        """The share of counted images by what was asked: by key, then by the value's group, rising."""
        groups = Groups({key: value} for key, value in self._rows)
        rates: dict[str, dict[str, float]] = {}
        for key, labels in groups.labels.items():
            images, counted = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0)
            for (own, value), number in self._rows.items():
                if own == key:
                    images[groups.label(key, value)] += number
                    counted[groups.label(key, value)] += found.get((own, value), 0)
            rates[key] = {label: round(counted[label] / images[label], 4) for label in labels}
        return rates

    def _probed(self, run: Run) -> dict[str, Any]:
        """Membership, where images of training people were kept back, and overlap with the other groups of probes."""
        paths = run.ledger.outputs("fingerprint", prefix=PROBES)
        if not paths:
            return {"membership": None, "overlap": {}}
        probes = recorded_vectors(run, paths[0].name)
        cosines = np.max(self._probes, axis=0)
        centers = recorded_vectors(run, CENTERS)
        trained = NearestSearch(probes.features)
        trained.add(centers.features, centers.keys)
        groups = np.array(probes.identities, object)
        overlap = {
            group: _overlap(
                np.array(probes.keys, object)[groups == group],
                in_training=trained.cosine[groups == group] >= self.thresholds.image_to_center,
                in_synthetic=cosines[groups == group] >= self.thresholds.image_to_face,
            )
            for group in sorted(set(probes.identities) - {TRAINED, KEPT_BACK})
        }
        both = all((groups == group).any() for group in (TRAINED, KEPT_BACK))
        compared = (cosines[groups == TRAINED], cosines[groups == KEPT_BACK])
        return {
            "membership": {name: round(value, 4) for name, value in membership(*compared).items()} if both else None,
            "overlap": overlap,
        }


def _overlap(people: np.ndarray, *, in_training: np.ndarray, in_synthetic: np.ndarray) -> dict[str, int]:
    """How many people have a face that counts as one of the training people, or as a synthetic one."""
    return {
        "people": len(set(people)),
        "in_training": len(set(people[in_training])),
        "in_synthetic": len(set(people[in_synthetic])),
    }


def closest_sheet(verdict: Verdict, *, synthetic: ShardSet, real: RealImages) -> bytes:
    """A JPEG of pairs, left the synthetic face: first what is dropped, then the closest of what is kept."""
    pairs = [(leak.key, leak.real) for leak in worst_leaks(verdict.leaks)[:CLOSEST]]
    pairs += [(pair["key"], pair["real"]) for pair in verdict.figures["closest"]]
    tiles = []
    for key, name in pairs:
        face = synthetic.rgb(synthetic.keys.index(key))
        tiles.append(np.concatenate([face, _beside(face, real.rgb(name))], axis=1))
    return encode_jpeg(np.concatenate(list(_rows(tiles))), quality=92)


def _beside(face: np.ndarray, real: np.ndarray | None) -> np.ndarray:
    """The real face at the size of the synthetic one; gray where there is no picture."""
    if real is None:
        return np.full_like(face, 128)
    height, width = face.shape[:2]
    return real if real.shape == face.shape else np.asarray(Image.fromarray(real).resize((width, height)))


def _rows(tiles: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Pictures of one size in rows, a white border around each; the last row is filled with white."""
    framed = [np.pad(tile, ((3, 3), (3, 3), (0, 0)), constant_values=255) for tile in tiles]
    framed += [np.full_like(framed[0], 255)] * (-len(framed) % SHEET_COLUMNS)
    for first in range(0, len(framed), SHEET_COLUMNS):
        yield np.concatenate(framed[first : first + SHEET_COLUMNS], axis=1)
