"""The card of a published set, for people, and its shard index, for tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shards.exports.card_template import CARD
from shards.exports.facts import Facts, Governance, Predecessor
from shards.privacy.lineage import CheckedSet
from shards.privacy.verdict import Verdict

HELD = {"content": "held against", "name": "held against, matched by name", None: "**not held against**"}

DEMOGRAPHICS = (
    "Gender presentation, age, skin tone, and their balance: not measured for this card. Error rates by group of "
    "people of nets that are trained on this set: not measured."
)

ALTERATIONS = "alterations.jpg"  # a picture for each row of the table of planted copies

ANSWERS = ("uses", "uses_not_allowed", "contact", "leaving_out", "retention")  # of `Governance`


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
        lineage=_lineage(facts.lineage, facts.governance),
        origin=_origin(facts.lineage),
        creator=facts.creator,
        demographics=DEMOGRAPHICS,
        **{name: line(getattr(facts.governance, name)) for name in ANSWERS},
        signature=_signature(facts.signer),
        predecessor=_predecessor(facts.predecessor),
        license=facts.license,
        citation=facts.citation,
    )


def _predecessor(replaced: Predecessor | None) -> str:
    if replaced is None:
        return "This version replaces no other one."
    return (
        f"This version replaces the one whose `manifest.json` has the sha256 {replaced.manifest}. Synthetic people "
        f"that were withdrawn since: {', '.join(replaced.withdrawn)}. Please delete the older version."
    )


def license_text(facts: Facts) -> str:
    """The license, what may be done under it, and the terms of the real faces."""
    given = facts.governance
    lines = [facts.license, f"Meant for: {line(given.uses)}", f"Not allowed: {line(given.uses_not_allowed)}"]
    lines += [f"Real faces, {line(one.name)}: {line(one.basis)}; {line(one.agreement)}" for one in given.real_data]
    return "\n\n".join([*lines, f"Contact: {line(given.contact)}"]) + "\n"


def _signature(signer: str | None) -> str:
    if signer is None:
        return "The set is unsigned."
    return (
        f"`manifest.json` is signed with the key {signer}. Get this key from the publisher in another way than this "
        "folder, and compare it with the one in `allowed_signers`. Then check with `ssh-keygen -Y verify -f "
        "allowed_signers -I publisher -n cemiface-dataset -s manifest.json.sig < manifest.json`, and after that, all "
        "files with `python verify.py`."
    )


def _origin(sets: Sequence[CheckedSet]) -> str:
    """The first lines of the card: what the nets have learned from, and whether the set was compared with it."""
    compared = [_cell(one.data.name) for one in sets if one.held_against is not None]
    others = [_cell(one.data.name) for one in sets if one.held_against is None]
    held = f"The audit held this set against {'; '.join(compared)}."
    if others:
        return (
            "> **Not checked against everything real.** Nets behind this set were trained on "
            f"{'; '.join(others)}. The audit did not compare the set with these faces; the publisher accepted that."
            f"{f' {held}' if compared else ''}\n\n"
        )
    return f"> {held} Its nets have learned from no other real faces.\n\n" if compared else ""


def _lineage(sets: Sequence[CheckedSet], governance: Governance) -> str:
    """A row per data set: whether the audit compared this set with it. Then the terms of each."""
    head = "| data set | license | images | identities | sha256 | audit |\n|---|---|---|---|---|---|"
    rows = [
        (
            _cell(one.data.name),
            _cell(one.data.license or "unknown"),
            "unknown" if one.data.images is None else f"{one.data.images:,}",
            "unknown" if one.data.identities is None else f"{one.data.identities:,}",
            _cell((one.data.sha256 or "unknown")[:16]),
            HELD[one.held_against],
        )
        for one in sets
    ]
    table = "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)]) if rows else "Not stated."
    terms = ["| real faces | license or legal basis | what the people agreed to |", "|---|---|---|"]
    terms += [f"| {_cell(one.name)} | {_cell(one.basis)} | {_cell(one.agreement)} |" for one in governance.real_data]
    return f"{table}\n\n" + "\n".join(terms)


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
    words += [depth_of(verdict), *_planted(verdict)]
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


def depth_of(verdict: Verdict) -> str:
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
    if not rows:
        return []
    return [
        "What this audit finds and what it misses, measured on altered copies of real images that were planted into "
        "it. A copy of a kind that is seldom found may be in this set. False alarms: "
        f"{verdict.thresholds.basis}.",
        _table(("planted copies", "found"), rows),
        f"![One synthetic image of this set, altered in these ways]({ALTERATIONS})",
        "The picture shows one synthetic image of this set, altered in these ways, in the order of the table.",
    ]


def _rate(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['recall']:.3f} (95 % interval {low:.3f} to {high:.3f})"


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in lines)


def line(text: str) -> str:
    """A text of the publisher's on one line, so that it cannot begin a heading."""
    return " ".join(text.split())


def _cell(text: str) -> str:
    return line(text).replace("|", "\\|")


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
