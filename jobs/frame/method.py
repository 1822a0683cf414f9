"""The method contract: what a method of making face sets provides to the stages that every method shares."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jobs.frame.stage import Stage
from jobs.frame.unit import SetUnit, Unit
from shards.privacy.lineage import DataSet

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
    """A JPEG, and its record (JSON) with `identity`, `index`, `seed`, `origin` and `asked`."""

    request: ImageRequest
    jpeg: bytes
    record: dict[str, Any]


class Remaker(Protocol):
    """Generates images of the set again, with new noise."""

    def remake(
        self, requests: Sequence[ImageRequest], *, attempt: int, work: Work[SetUnit]
    ) -> Iterator[GeneratedImage]:
        """Images with the same `asked` as the first ones. Each depends on nothing but its request and `attempt`."""


@dataclass(frozen=True, kw_only=True)
class CardText:
    """The text about the method on the card of a published set."""

    summary: str
    limits: tuple[str, ...]
    citation: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method: its stages, and what the shared stages need from it.

    Attributes:
        name: its name in configs, `method: NAME`.
        chain: all stages by name, in order, including the shared ones.
        identities: its stage that makes the identities of the set.
        generate: its stage that generates the set.
        remaker: "module:name" of a function (run, *, device) that returns a `Remaker`. The module may import torch.
        report_parts: "module:NAME" of a tuple of report parts.
        card: the text on the card of the published set.
        lineage: every data set that the nets behind the set were trained on, those of given weights included.
        own_stages: names of the stages that are not shared.
        training_plots: "module:name" of a function (stage, metrics) that returns plots of its own trainings.
        identity_faces: a tar with one face per identity, keyed by the identity's name; None if there is none.
        describe: numbers for `cemiface info`.
        real_faces: tars of real faces that the set depends on and that are not of the stage shard, as (stage, tar).
        asked_values: by key, all values that images of the set may be asked for; None if that is not known.
        check_publishable: raises ConfigError if the set may not be published, whatever the audit finds.
    """

    name: str
    chain: Mapping[str, Stage[Unit]]
    identities: Stage[Unit]
    generate: Stage[SetUnit]
    remaker: str
    report_parts: str
    card: Callable[[Run], CardText]
    lineage: Callable[[Run], tuple[DataSet, ...]]
    own_stages: tuple[str, ...] = ()
    training_plots: str = ""
    identity_faces: Callable[[Run], Path | None] = lambda run: None
    describe: Callable[[Run], dict[str, Any]] = lambda run: {}
    real_faces: Callable[[Run], tuple[tuple[str, str], ...]] = lambda run: ()
    asked_values: Callable[[Run], Mapping[str, Collection[float | str]] | None] = lambda run: None
    check_publishable: Callable[[Run], None] = lambda run: None

    def load_remaker(self, run: Run, *, device: torch.device) -> Remaker:
        """What `refill` generates images with."""
        remaker: Remaker = load(self.remaker)(run, device=device)
        return remaker


def load(name: str) -> Any:
    """The object with the name "module:name". Names come from code and entry points, never from a file."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
