"""What the leak search found for one tar or one group of people, as it is saved between the steps of an audit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from shards.errors import DataError
from shards.privacy.copies.scores import CopyScores
from shards.privacy.leaks import Leak


@dataclass(frozen=True, kw_only=True)
class ClosestMatches:
    """The nearest real face and the nearest real center for each of N images, or of N identities by their mean.

    Attributes:
        names: N keys or names of identities.
        face, face_cosine: key of the nearest real image, and its cosine.
        center, center_cosine: name of the real identity with the nearest center, and its cosine.
    """

    names: list[str]
    face: list[str]
    face_cosine: list[float]
    center: list[str]
    center_cosine: list[float]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The real faces and people nearest to one tar's images and identities; thresholds are applied later.

    Attributes:
        images, people: matches of the images, and of the means of the identities.
        identities: of each image.
        pixels: leaks found by their pixels, which need no threshold.
        probes: for each probe, the cosine to the nearest image of the tar.
        references: number of real images compared with.
        copies: scores of the images as altered copies; None if they were not searched for.
    """

    images: ClosestMatches
    people: ClosestMatches
    identities: list[str]
    pixels: list[Leak]
    probes: list[float]
    references: int
    copies: CopyScores | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        value = asdict(self)
        if self.copies is None:
            del value["copies"]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Findings:
        """The inverse of `as_json`."""
        pixels = [Leak.from_record(leak) for leak in value["pixels"]]
        tables = {name: ClosestMatches(**value[name]) for name in ("images", "people")}
        copies = CopyScores(**value["copies"]) if "copies" in value else None
        return Findings(**{**value, **tables, "pixels": pixels, "copies": copies})

    def with_copies(self, copies: CopyScores | None) -> Findings:
        """The same findings with scores as altered copies."""
        return replace(self, copies=copies)


def join_findings(findings: Iterable[Findings]) -> Findings:
    """Findings of several tars of one group as one; each probe keeps its highest cosine.

    Raises:
        DataError: there are none, or they were compared with different sets.
    """
    parts = list(findings)
    if len({part.references for part in parts}) != 1:
        raise DataError("audit: findings about different real sets, or none; run the audit again")
    return Findings(
        images=_concatenated([part.images for part in parts]),
        people=_concatenated([part.people for part in parts]),
        identities=[identity for part in parts for identity in part.identities],
        pixels=[leak for part in parts for leak in part.pixels],
        probes=np.max([part.probes for part in parts], axis=0).tolist() if parts[0].probes else [],
        references=parts[0].references,
        copies=CopyScores.joined([part.copies for part in parts if part.copies]) if parts[0].copies else None,
    )


def _concatenated(tables: Sequence[ClosestMatches]) -> ClosestMatches:
    columns = [field.name for field in fields(ClosestMatches)]
    return ClosestMatches(**{name: [value for table in tables for value in getattr(table, name)] for name in columns})
