"""What is known of a published set: the facts behind its card and its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shards.privacy.lineage import CheckedSet
from shards.privacy.verdict import Verdict
from shards.tars.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class DataTerms:
    """On what ground a set of real faces was used, and what its people agreed to."""

    name: str
    basis: str
    agreement: str


@dataclass(frozen=True, kw_only=True)
class Governance:
    """Who answers for a set, and what it may be used for.

    Attributes:
        real_data: the terms of each set of real faces.
        leaving_out: how a person can ask to be left out, and what then happens.
        retention: how long the private tars are kept.
    """

    real_data: tuple[DataTerms, ...]
    leaving_out: str
    uses: str
    uses_not_allowed: str
    contact: str
    retention: str

    def terms_of(self, name: str) -> DataTerms | None:
        """The terms of a data set of this name."""
        return next((one for one in self.real_data if one.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code that made a set: version, and commit if it was a checkout; `changed`: with changes of its own."""

    version: str
    commit: str | None
    changed: bool


@dataclass(frozen=True, kw_only=True)
class Activity:
    """A stage that took part in making a set.

    Attributes:
        config_sha256: of the fields of its config that its outputs depend on, as JSON.
        given, nets: sha256 of files that it was given, by the field that names them, and of nets that it trained.
    """

    name: str
    title: str
    config_sha256: str
    given: Mapping[str, str]
    nets: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Predecessor:
    """The version that a set replaces, by the sha256 of its manifest, and the synthetic people withdrawn since."""

    manifest: str
    withdrawn: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts on a card.

    Attributes:
        name, version, date, url: of the set; date as YYYY-MM-DD; url may be empty.
        summary: one paragraph: what it is and how it was made.
        license: SPDX identifier or URL.
        size: side of the images, pixels.
        config: as resolved for the run, nested. metrics: name to number.
        limits: known limits, one sentence each. citation: of the method.
        lineage: data sets that the nets were trained on.
        code, activities: what made the set.
        signer: fingerprint of the key that the manifest is signed with; None if it is unsigned.
        predecessor: None for the first version.
    """

    name: str
    version: str
    date: str
    url: str = ""
    creator: str
    summary: str
    license: str
    governance: Governance
    size: int
    identities: int
    seed: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    limits: Sequence[str]
    citation: str
    lineage: Sequence[CheckedSet] = ()
    code: Code
    activities: Sequence[Activity] = ()
    signer: str | None = None
    predecessor: Predecessor | None = None
    verdict: Verdict
    manifest: Manifest
