"""The card of a published set, for people, and its shard index, for tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shards.privacy.lineage import CheckedSet
from shards.privacy.verdict import Verdict
from shards.tars.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts on a card.

    Attributes:
        name, version, date, url: of the set; date as YYYY-MM-DD; url may be empty.
        summary: one paragraph: what it is and how it was made.
        license: SPDX identifier or URL. consent: whose faces were involved, and on what ground.
        size: side of the images, pixels.
        config: as resolved for the run, nested. metrics: name to number.
        limits: known limits, one sentence each. citation: of the method.
        lineage: data sets that the nets were trained on.
    """

    name: str
    version: str
    date: str
    url: str = ""
    creator: str
    summary: str
    license: str
    consent: str
    size: int
    identities: int
    seed: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    limits: Sequence[str]
    citation: str
    lineage: Sequence[CheckedSet] = ()
    verdict: Verdict
    manifest: Manifest


CARD = """\
---
pretty_name: {quoted_name}
license: {quoted_license}
tags: [synthetic, face-recognition, webdataset]
configs:
- config_name: default
  data_files:
  - split: train
    path: "*.tar"
---

# {name} {version}

{warning}{summary}

| | |
|---|---|
| images | {images:,} |
| identities | {identities:,} |
| image size | {size} x {size} px, RGB, JPEG |
| tars | {tars:,}, {gigabytes:.2f} GB |
| seed | {seed} |
| date | {date} |

## Use

Each tar is a WebDataset shard: `<key>.jpg` beside `<key>.json`, whose `identity` is the label. Check what you
downloaded with `python verify.py`; it needs the Python standard library only.

## How it was made

{config}

## Metrics

{metrics}

## Audit

{audit}

## What the nets have learned from

{lineage}

## Known limits

{limits}

## License and consent

License: {license}

{consent}

## Citation

{citation}
"""


def dataset_card(facts: Facts) -> str:
    """The Markdown card, with the front matter that data set hubs read."""
    totals = facts.manifest.totals
    return CARD.format(
        quoted_name=json.dumps(facts.name, ensure_ascii=False),
        quoted_license=json.dumps(facts.license, ensure_ascii=False),
        name=facts.name,
        version=facts.version,
        summary=facts.summary,
        images=totals.samples,
        identities=facts.identities,
        size=facts.size,
        tars=totals.shards,
        gigabytes=totals.bytes / 1e9,
        seed=facts.seed,
        date=facts.date,
        config=_table(("setting", "value"), list(_settings(facts.config))),
        metrics=_table(("metric", "value"), [(name, f"{number:.4g}") for name, number in facts.metrics.items()]),
        audit=_audit(facts.verdict),
        limits="\n".join(f"- {limit}" for limit in facts.limits) or "None stated.",
        lineage=_lineage(facts.lineage),
        warning=_warning(facts.lineage),
        license=facts.license,
        consent=facts.consent,
        citation=facts.citation,
    )


def _warning(sets: Sequence[CheckedSet]) -> str:
    """The first lines of the card, if the set was not compared with everything that its nets were trained on."""
    names = [_cell(one.data.name) for one in sets if one.held_against is None]
    if not names:
        return ""
    return (
        f"> **Not checked against everything real.** Nets behind this set were trained on {'; '.join(names)}. The audit"
        " did not compare the set with these faces; the publisher accepted that.\n\n"
    )


def _lineage(sets: Sequence[CheckedSet]) -> str:
    """A row per data set: whether the audit compared this set with it."""
    head = "| data set | license | images | identities | sha256 | audit |\n|---|---|---|---|---|---|"
    audit = {"content": "held against", "name": "held against, matched by name", None: "**not held against**"}
    rows = [
        (
            _cell(one.data.name),
            _cell(one.data.license or "unknown"),
            "unknown" if one.data.images is None else f"{one.data.images:,}",
            "unknown" if one.data.identities is None else f"{one.data.identities:,}",
            _cell((one.data.sha256 or "unknown")[:16]),
            audit[one.held_against],
        )
        for one in sets
    ]
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)]) if rows else "Not stated."


def _audit(verdict: Verdict) -> str:
    thresholds = verdict.thresholds
    net = (
        "a different net from the one that guided the generator"
        if verdict.independent
        else "the net that also guided the generator"
    )
    words = [
        f"{verdict.images:,} synthetic images, and the mean of each identity, were compared with every one of"
        f" {verdict.references:,} real images and every real training identity's center: pixels, perceptual hashes,"
        " mirrored and not, and embeddings.",
        f"By `{verdict.embedder}`, {net}, a cosine of {thresholds.image_to_face:.4f} or more to a real face counts as"
        f" the same person ({thresholds.image_to_center:.4f} to a center, {thresholds.identity_to_face:.4f} and"
        f" {thresholds.identity_to_center:.4f} for an identity's mean): {thresholds.basis}.",
        f"The {len(verdict.leaked):,} images found too close are not in this set; {len(verdict.refilled):,} of"
        " them were replaced by new images that passed the same checks. Identities that lost or got an image were"
        " checked again by the mean of their images in this set. `audit.json` names the tars of `manifest.json`.",
    ]
    words += [_depth(verdict), *_planted(verdict)]
    membership = verdict.figures.get("membership")
    if membership:
        words.append(
            "Membership test: an image used for training is closer to the set than a kept-back image of the same"
            f" person with probability {membership['auc']:.3f} (0.5: no sign of memorization; standard error"
            f" {membership['standard_error']:.3f})."
        )
    counts = [(reason, str(count)) for reason, count in verdict.counts.items()]
    rates = [
        (f"{key} = {value}", f"{100 * rate:.2f} % dropped")
        for key, found in verdict.figures.get("leak_rate_by", {}).items()
        for value, rate in found.items()
    ]
    tables = [_table(("reason", "images"), counts), _table(("requested", "audit"), rates), *_recall_table(verdict)]
    return "\n\n".join([" ".join(words), *tables])


def _depth(verdict: Verdict) -> str:
    """Which alterations of a real image the audit looked for."""
    if verdict.figures.get("copies") == "thorough":
        return (
            "The search for copies was thorough: images were also compared by small gray pictures, which finds cropped,"
            " shifted, rotated, mirrored, covered, blurred and inverted copies of real images."
        )
    return (
        "The search for copies was quick: it finds copies that were saved again or mirrored. Copies that were cropped,"
        " shifted, rotated, covered, blurred or inverted were not searched for (`audit.copies: thorough` does that)."
    )


def _planted(verdict: Verdict) -> list[str]:
    """How many planted copies were found; audits of older versions planted none."""
    planted = verdict.figures.get("planted")
    if not planted:
        return []
    audit, net = planted["audit"], planted["net"]
    return [
        f"As a control, {audit['images']:,} altered copies of real training images went through the audit, outside of"
        f" this set: {audit['found']:,} were found, a recall of {_rate(audit)}. Of {net['images']:,} that were slightly"
        f" cropped or rotated, or brighter, the net by itself found {net['found']:,}, {_rate(net)}."
    ]


def _recall_table(verdict: Verdict) -> list[str]:
    """The recall of each alteration; nothing for audits that planted none."""
    found = verdict.figures.get("planted", {}).get("by_alteration", {})
    rows = [(name, f"{one['found']:,} of {one['images']:,}, {_rate(one)}") for name, one in found.items()]
    return [_table(("planted copies", "found"), rows)] if rows else []


def _rate(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['recall']:.3f} (95 % interval {low:.3f} to {high:.3f})"


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", f"`{json.dumps(value, ensure_ascii=False, default=str)}`"


def shard_index(facts: Facts) -> dict[str, Any]:
    """The tars with their counts and sizes, in the format of WebDataset's `wids` readers."""
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": facts.name,
        "shardlist": [
            {"url": shard.name, "nsamples": shard.samples, "filesize": shard.bytes} for shard in facts.manifest.shards
        ],
    }
