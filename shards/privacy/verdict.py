"""The verdict of an audit: which synthetic images must not be published, and why.

The real faces nearest to the set and to a control group of real people come from `shards.privacy.search`. The control
group, held-out people or training people compared with each other, gives the thresholds. The embedder of an audit
should not be the one that guided the generator, which has learned to satisfy it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shards.privacy.leaks import Leak, Reason
from shards.privacy.lineage import CheckedSet
from shards.privacy.thresholds import Thresholds

# What may be published of a verdict. A new field or figure stays private until it is listed here.
PUBLIC_FIELDS = (
    "passed",
    "images",
    "references",
    "embedder",
    "independent",
    "thresholds",
    "judged",
    "refilled",
    "counts",
    "dropped",
    "lineage",
)

PUBLIC_FIGURES = ("leak_rate_by", "by_false_match_rate", "membership", "overlap", "copies", "planted")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of an audit.

    Attributes:
        passed: whether few enough images leak.
        images, references: number of synthetic images audited, and of real images they were compared with.
        embedder: the audit's net. independent: whether it is another net than the one that guided the generator.
        thresholds: cosines at or above them count as the same person.
        judged: sha256 by name of the audited tars; the verdict holds for these bytes only.
        leaks: at most one per image and reason.
        refilled: keys of leaked images that were replaced by images that do not leak.
        lineage: the data sets that the nets behind the set were trained on, and whether the set was compared with
            each; None in verdicts of older versions, which compared it with the run's training faces only.
        figures: other measurements: leak rates by requested values and at given false match rates, membership,
            overlap.
    """

    passed: bool
    images: int
    references: int
    embedder: str
    independent: bool
    thresholds: Thresholds
    judged: Mapping[str, str]
    leaks: tuple[Leak, ...]
    figures: Mapping[str, Any]
    refilled: tuple[str, ...] = ()
    lineage: tuple[CheckedSet, ...] | None = None

    @property
    def leaked(self) -> set[str]:
        """Keys of the images that must not be published."""
        return {leak.key for leak in self.leaks}

    @property
    def dropped(self) -> list[str]:
        """Sorted keys of the leaked images that were not replaced."""
        return sorted(self.leaked.difference(self.refilled))

    @property
    def counts(self) -> dict[str, int]:
        """Number of images by reason; an image counts once for each of its reasons."""
        found = [leak.reason for leak in self.leaks]
        searched = [reason for reason in Reason if reason != Reason.ALTERED_COPY or self.thresholds.copies is not None]
        return {reason.value: found.count(reason) for reason in searched}

    @property
    def missed(self) -> str | None:
        """Why the positive control failed, in one line; None if it did not, or if an older audit has none."""
        planted = self.figures.get("planted")
        if not planted or planted["passed"]:
            return None
        net_failed = planted["net"]["recall"] < planted["net_recall"]
        found, who = planted["net" if net_failed else "audit"], f"the audit's net, {self.embedder}, by itself"
        needed = f"it needs {planted['net_recall']}" if net_failed else f"audit.min_recall is {planted['min_recall']}"
        return (
            f"{who if net_failed else 'the audit'} found {found['found']} of {found['images']} planted copies of real "
            f"faces ({found['recall']:.2f}), {needed}; give a net that tells people apart (fingerprint.judge.weights)"
        )

    def record(self) -> dict[str, Any]:
        """The verdict as JSON-ready values."""
        value = asdict(self)
        if self.thresholds.copies is None:
            del value["thresholds"]["copies"]
        return value | {"leaks": [asdict(leak) for leak in self.leaks], "counts": self.counts, "dropped": self.dropped}

    def public_record(self) -> dict[str, Any]:
        """The part of the verdict that may be published, which has no key or name of a real face or person."""
        value = self.record()
        figures = {name: self.figures[name] for name in PUBLIC_FIGURES if name in self.figures}
        return {name: value[name] for name in PUBLIC_FIELDS} | {"figures": figures}

    @staticmethod
    def from_record(value: Mapping[str, Any]) -> Verdict:
        """The inverse of `record`; reads records of older versions too."""
        plain = {name: value[name] for name in Verdict.__dataclass_fields__ if name in value}
        lineage = plain.get("lineage")
        typed = {
            "leaks": tuple(map(Leak.from_record, value["leaks"])),
            "refilled": tuple(value["refilled"]),
            "thresholds": Thresholds(**value["thresholds"]),
            "figures": _upgraded(value["figures"]),
            "lineage": None if lineage is None else tuple(map(CheckedSet.from_record, lineage)),
        }
        return Verdict(**plain | typed)


def _upgraded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Leak rates by every key of `asked`; older verdicts have rates by m only, under other names."""
    found = dict(figures)
    if "leak_rate_by_m" in found:
        found["leak_rate_by"] = {"m": found.pop("leak_rate_by_m")}
    if "by_false_match_rate" in found:
        found["by_false_match_rate"] = [_upgraded_row(row) for row in found["by_false_match_rate"]]
    return found


def _upgraded_row(row: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(row)
    if "rate_by_m" in found:
        found["rate_by"] = {"m": found.pop("rate_by_m")}
    return found
