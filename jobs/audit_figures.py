"""What an audit counts: leaks by m and by false match rate, the closest pairs, membership, overlap of people."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.fingerprint_faces import CENTERS, PROBES, TRAINED
from jobs.shard_faces import KEPT_BACK

if TYPE_CHECKING:
    from jobs.stage import Run
    from shards.audit import Thresholds, Verdict
    from shards.findings import Findings, Leak
    from shards.shard_set import ShardSet

CLOSEST = 24  # pairs of either kind, dropped and kept, that are shown
SHEET_COLUMNS = 6  # pairs side by side
MOST_M = 21  # wished similarities that are told one by one; of more, as of a continuous range, in steps of 0.1


class Tally:
    """Goes through the findings of the synthetic tars one by one; memory grows with the leaks, not with the set."""

    def __init__(self, thresholds: Thresholds, *, rates: Mapping[float, float]) -> None:
        """Args: rates: false match rate and the cosine that it belongs to."""
        self.thresholds, self.rates = thresholds, rates
        self.images, self.references = 0, 0
        self.leaks: list[Leak] = []
        self.dropped: set[str] = set()
        self._by_m: dict[float, dict[str, Any]] = {}
        self._closest: list[tuple[float, str, str]] = []
        self._probes: list[Sequence[float]] = []

    def add(self, findings: Findings, *, similarities: Sequence[float]) -> None:
        """Judge one tar's images; `similarities` are their wished m."""
        from shards.audit import leaks_of

        leaks = leaks_of(findings, self.thresholds)
        dropped = {leak.key for leak in leaks}
        self.leaks += leaks
        self.dropped |= dropped
        self.images += len(similarities)
        self.references = findings.references
        self._probes.append(findings.probes)
        images = findings.images
        for key, real, cosine, m in zip(images.names, images.face, images.face_cosine, similarities, strict=True):
            row = self._by_m.setdefault(m, {"images": 0, "dropped": 0, "at": dict.fromkeys(self.rates, 0)})
            row["images"] += 1
            row["dropped"] += key in dropped
            for rate, threshold in self.rates.items():
                row["at"][rate] += cosine >= threshold
            if key not in dropped:
                keep = heapq.heappush if len(self._closest) < CLOSEST else heapq.heappushpop
                keep(self._closest, (cosine, key, real))

    def figures(self, run: Run) -> dict[str, Any]:
        """Everything measured beside the leaks, JSON-ready."""
        rows = self._rows()
        return {
            "leak_rate_by_m": self.rates_by_m(),
            "by_false_match_rate": [
                {
                    "fmr": rate,
                    "threshold": round(threshold, 4),
                    "images": sum(row["at"][rate] for row in rows),
                    "rate_by_m": {f"{row['m']:g}": round(row["at"][rate] / row["images"], 4) for row in rows},
                }
                for rate, threshold in self.rates.items()
            ],
            "closest": [
                {"key": key, "real": real, "cosine": cosine} for cosine, key, real in sorted(self._closest)[::-1]
            ],
            **self._probed(run),
        }

    def rates_by_m(self) -> dict[str, float]:
        """The share of dropped images by wished m, rising."""
        return {f"{row['m']:g}": round(row["dropped"] / row["images"], 4) for row in self._rows()}

    def _rows(self) -> list[dict[str, Any]]:
        plain = [row | {"m": m} for m, row in self._by_m.items()]
        return sorted(_in_bins(self._by_m) if len(plain) > MOST_M else plain, key=lambda row: float(row["m"]))

    def _probed(self, run: Run) -> dict[str, Any]:
        """Membership, where photos of training people were kept back; overlap with everybody else probed."""
        from shards.audit import membership
        from shards.nearest import Nearest
        from shards.references import read_vectors

        paths = run.outputs("fingerprint", prefix=PROBES)
        if not paths:
            return {"membership": None, "overlap": {}}
        probes = read_vectors(paths[0])
        cosines = np.max(self._probes, axis=0)
        centers = read_vectors(run.stage_folder("fingerprint").output(CENTERS))
        trained = Nearest(probes.features)
        trained.show(centers.features, centers.keys)
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


def _in_bins(by_m: Mapping[float, Mapping[str, Any]]) -> list[dict[str, Any]]:
    bins: dict[float, dict[str, Any]] = {}
    for m, row in by_m.items():
        center = round(m, 1) + 0.0  # no -0
        found = bins.setdefault(center, {"m": center, "images": 0, "dropped": 0, "at": dict.fromkeys(row["at"], 0)})
        found["images"] += row["images"]
        found["dropped"] += row["dropped"]
        found["at"] = {rate: found["at"][rate] + count for rate, count in row["at"].items()}
    return list(bins.values())


def _overlap(people: np.ndarray, *, in_training: np.ndarray, in_synthetic: np.ndarray) -> dict[str, int]:
    """How many people have a face that counts as one of the training people, or as a synthetic one."""
    return {
        "people": len(set(people)),
        "in_training": len(set(people[in_training])),
        "in_synthetic": len(set(people[in_synthetic])),
    }


def worst_leaks(leaks: Sequence[Leak]) -> list[Leak]:
    """One leak per synthetic image: the strictest reason first, then by falling cosine."""
    from shards.findings import Reason

    strictness = list(Reason)
    worst: dict[str, Leak] = {}
    for leak in sorted(leaks, key=lambda leak: (strictness.index(leak.reason), -(leak.cosine or 0.0), leak.key)):
        worst.setdefault(leak.key, leak)
    return list(worst.values())


def real_row(real: ShardSet, name: str) -> int:
    """The row of a real image's key, or of the first image of the identity whose center it is."""
    if name in real.classes:
        return int(np.flatnonzero(real.labels == real.classes.index(name))[0])
    return real.keys.index(name)


def closest_sheet(verdict: Verdict, *, synthetic: ShardSet, real: ShardSet) -> bytes:
    """A JPEG of pairs, left the synthetic face: first what is dropped, then the closest of what is kept."""
    from shards.jpeg import encode_jpeg

    pairs = [(leak.key, leak.real) for leak in worst_leaks(verdict.leaks)[:CLOSEST]]
    pairs += [(pair["key"], pair["real"]) for pair in verdict.figures["closest"]]
    tiles = [
        np.concatenate([synthetic.rgb(synthetic.keys.index(key)), real.rgb(real_row(real, name))], axis=1)
        for key, name in pairs
    ]
    return encode_jpeg(np.concatenate(list(_rows(tiles))), quality=92)


def _rows(tiles: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Pictures of one size in rows, a white border around each; the last row is filled with white."""
    framed = [np.pad(tile, ((3, 3), (3, 3), (0, 0)), constant_values=255) for tile in tiles]
    framed += [np.full_like(framed[0], 255)] * (-len(framed) % SHEET_COLUMNS)
    for first in range(0, len(framed), SHEET_COLUMNS):
        yield np.concatenate(framed[first : first + SHEET_COLUMNS], axis=1)
