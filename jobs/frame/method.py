"""The method contract: what a published method of making face sets gives to the stages that every method shares."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jobs.frame.stage import Stage
from jobs.frame.unit import SetUnit, Unit

if TYPE_CHECKING:
    import torch

    from jobs.frame.rank import Work
    from jobs.frame.run import Run


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """One image of the set: image `index` of identity `identity`, both counted from 0."""

    identity: int
    index: int

    @property
    def key(self) -> str:
        """Its name in the tar."""
        return f"{self.identity:06d}-{self.index:03d}"


def identity_name(identity: int) -> str:
    """The name of a synthetic identity in records."""
    return f"synthetic-{identity:06d}"


def identity_number(name: str) -> int:
    """The number of a synthetic identity, from its name."""
    return int(name.rpartition("-")[2])


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """An image as it is stored: its JPEG, and its record with `identity`, `index`, `seed`, `origin` and `asked`."""

    request: ImageRequest
    jpeg: bytes
    record: dict[str, Any]


class Remaker(Protocol):
    """Generates images of the set again, with other noise."""

    def remake(
        self, requests: Sequence[ImageRequest], *, attempt: int, work: Work[SetUnit]
    ) -> Iterator[GeneratedImage]:
        """Images that ask for the same as the requested ones did. Each is a function of (request, attempt) alone."""


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set that a net of the run has learned from.

    Attributes:
        license: None where it is unknown.
        sha256: of its manifest, or of the weights file that it is known by; None where neither is there yet.
        held_against: whether the audit compares the synthetic set with it.
    """

    name: str
    license: str | None
    sha256: str | None
    held_against: bool


@dataclass(frozen=True, kw_only=True)
class CardText:
    """What the card of a published set says about the method."""

    summary: str
    limits: tuple[str, ...]
    citation: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method: its stages, and what the shared stages ask of it.

    Attributes:
        name: as `method:` in a config names it.
        title: for people.
        chain: all stages by name, shared ones included, in order.
        identities, generate: of its own stages, those that make the set's people and the set.
        remaker: "module:name" of a function (run, *, device) that returns a `Remaker`; it may import torch.
        report_parts: "module:NAME" of a tuple of report parts.
        training_plots: "module:name" of a function (stage, metrics) that returns plots of a training of its own.
        identity_faces: a tar with one face per identity, under the identity's name; None if the method has none.
        people_exist: whether identities may be real people, whose set is for study only.
        lineage: every data set that its nets have learned from.
        describe: numbers for `cemiface info`.
    """

    name: str
    title: str
    chain: Mapping[str, Stage[Unit]]
    identities: Stage[Unit]
    generate: Stage[SetUnit]
    remaker: str
    report_parts: str
    card: Callable[[Run], CardText]
    lineage: Callable[[Run], tuple[DataSource, ...]]
    own_stages: tuple[str, ...] = field(default=())
    training_plots: str = ""
    identity_faces: Callable[[Run], Path | None] = lambda run: None
    describe: Callable[[Run], dict[str, Any]] = lambda run: {}

    def load_remaker(self, run: Run, *, device: torch.device) -> Remaker:
        remaker: Remaker = load(self.remaker)(run, device=device)
        return remaker


def load(name: str) -> Any:
    """The object that "module:name" names; only names in our code come here, never one that was read from a file."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
