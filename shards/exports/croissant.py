"""Croissant metadata of a published set, which search engines and data set loaders read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shards.exports.card import DEMOGRAPHICS, HELD, depth_of, line
from shards.exports.facts import Activity, Facts
from shards.privacy.lineage import CheckedSet
from shards.tars.manifest import Manifest

VERSION = "http://mlcommons.org/croissant/1.1"

RECALL = "audit_recall"  # the table of what the audit finds

Entity = dict[str, Any]  # a node of JSON-LD


def croissant(facts: Facts) -> Entity:
    """Croissant 1.1 (docs.mlcommons.org/croissant) JSON-LD: the tars, the records in them, lineage and conditions."""
    tars = [
        {
            "@type": "cr:FileObject",
            "@id": shard.name,
            "name": shard.name,
            "contentUrl": shard.name,
            "contentSize": f"{shard.bytes} B",
            "encodingFormat": "application/x-tar",
            "sha256": shard.sha256,
        }
        for shard in facts.manifest.shards
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": facts.name,
        "version": facts.version,
        "description": facts.summary,
        "license": facts.license,
        "url": facts.url,
        "creator": {"@type": "sc:Organization", "name": facts.creator},
        "datePublished": facts.date,
        "citeAs": f"{facts.creator}: {facts.name} {facts.version}, {facts.date[:4]}. {facts.citation}",
        **_responsible(facts),
        "prov:wasDerivedFrom": [_derived_from(one, facts) for one in facts.lineage],
        "prov:wasGeneratedBy": [_activity(one, facts) for one in facts.activities],
        **_revision(facts),
        "distribution": [
            *tars,
            _members("jpg", "*.jpg", "image/jpeg", facts.manifest),
            _members("json", "*.json", "application/json", facts.manifest),
        ],
        "recordSet": [
            _record_set("images", members="jpg", column="image", kind="sc:ImageObject"),
            _record_set("records", members="json", column="record", kind="sc:Text"),
            *_recall(facts),
        ],
    }


def _responsible(facts: Facts) -> Entity:
    """The properties of the responsible-AI vocabulary, and the conditions of use."""
    given = facts.governance
    allowed, refused = f"Meant for: {line(given.uses)}", f"Not allowed: {line(given.uses_not_allowed)}"
    people = [f"{line(one.name)}: {line(one.basis)}; {line(one.agreement)}" for one in given.real_data]
    return {
        "usageInfo": {"@type": "sc:CreativeWork", "name": "Conditions of use", "text": f"{allowed} {refused}"},
        "rai:hasSyntheticData": True,
        "rai:dataCollection": f"No image was collected; all were generated. {facts.summary}",
        "rai:dataLimitations": [*facts.limits, depth_of(facts.verdict)],
        "rai:dataBiases": [DEMOGRAPHICS],
        "rai:dataUseCases": [allowed],
        "rai:dataSocialImpact": (
            f"{refused} Nets that are trained on the set recognize real people. How a person can ask to be left out: "
            f"{line(given.leaving_out)}"
        ),
        "rai:personalSensitiveInformation": [
            "Every image shows a synthetic face, and says so in its file. Faces show gender presentation, age and skin "
            "tone. The nets behind the set have learned from real faces, on this ground:",
            *people,
        ],
        "rai:dataReleaseMaintenancePlan": f"Contact: {line(given.contact)} Real faces: {line(given.retention)}",
    }


def _revision(facts: Facts) -> Entity:
    """The version that this one replaces, if it replaces one."""
    if facts.predecessor is None:
        return {}
    gone = ", ".join(facts.predecessor.withdrawn)
    return {
        "prov:wasRevisionOf": {
            "@type": "prov:Entity",
            "prov:label": f"an earlier version of {facts.name}; withdrawn since: {gone}",
            "sc:sha256": facts.predecessor.manifest,
        }
    }


def _derived_from(one: CheckedSet, facts: Facts) -> Entity:
    """A set of real faces that the nets have learned from."""
    data, terms = one.data, facts.governance.terms_of(one.data.name)
    counts = {"images": data.images, "identities": data.identities}
    known = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count is not None)
    return {
        "@type": "prov:Entity",
        "prov:label": data.name,
        "sc:license": data.license or "unknown",
        **({"sc:sha256": data.sha256} if data.sha256 else {}),
        "sc:description": f"{known or 'size unknown'}. Audit: {HELD[one.held_against].strip('*')}",
        **({"sc:usageInfo": f"{line(terms.basis)}; {line(terms.agreement)}"} if terms else {}),
    }


def _activity(one: Activity, facts: Facts) -> Entity:
    """A stage: what it was given and trained, by which code and config."""
    commit = f", commit {facts.code.commit}" if facts.code.commit else ""
    changed = ", with changes" if facts.code.changed else ""
    return {
        "@type": "prov:Activity",
        "prov:label": one.name,
        "sc:description": f"{one.title}; sha256 of its config: {one.config_sha256}",
        "prov:used": list(_files(one.given)),
        "prov:generated": list(_files(one.nets)),
        "prov:wasAssociatedWith": {
            "@type": "prov:SoftwareAgent",
            "prov:label": "CemiFace batch suite",
            "sc:softwareVersion": f"{facts.code.version}{commit}{changed}",
        },
    }


def _files(hashes: Mapping[str, str]) -> Iterator[Entity]:
    for name, sha256 in hashes.items():
        yield {"@type": "prov:Entity", "prov:label": name, "sc:sha256": sha256}


def _recall(facts: Facts) -> Iterator[Entity]:
    """The recall of planted copies by alteration, as records; nothing for audits that planted none."""
    found: Mapping[str, Any] = facts.verdict.figures.get("planted", {}).get("by_alteration", {})
    if not found:
        return
    kinds = {
        "alteration": "sc:Text", "planted": "sc:Integer", "found": "sc:Integer",
        "recall": "sc:Float", "low": "sc:Float", "high": "sc:Float",
    }  # fmt: skip
    yield {
        "@type": "cr:RecordSet",
        "@id": RECALL,
        "name": RECALL,
        "description": (
            "Altered copies of real images that were put through the audit, outside of this set, how many of them it "
            "found, and the 95 % interval of that rate."
        ),
        "key": {"@id": f"{RECALL}/alteration"},
        "field": [
            {"@type": "cr:Field", "@id": f"{RECALL}/{name}", "name": name, "dataType": kind}
            for name, kind in kinds.items()
        ],
        "data": [
            {
                f"{RECALL}/{name}": value
                for name, value in zip(
                    kinds,
                    (alteration, one["images"], one["found"], one["recall"], *one["interval"]),
                    strict=True,
                )
            }
            for alteration, one in found.items()
        ],
    }


def _members(name: str, pattern: str, encoding: str, manifest: Manifest) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": [{"@id": shard.name} for shard in manifest.shards],
        "encodingFormat": encoding,
        "includes": pattern,
    }


def _record_set(name: str, *, members: str, column: str, kind: str) -> dict[str, Any]:
    """A table of a file set: the key, which is a member's name without its extension, and the content."""
    key_of = {"extract": {"fileProperty": "fullpath"}, "transform": {"regex": r"^(.+)\.[a-z]+$"}}
    columns = [("key", "sc:Text", key_of), (column, kind, {"extract": {"fileProperty": "content"}})]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "dataType": data_type,
                "source": {"fileSet": {"@id": members}} | source,
            }
            for field, data_type, source in columns
        ],
    }


# The JSON-LD context of the specification: the terms of Croissant, and those with a type of their own.
TERMS = """
annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field fileProperty fileObject
fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path readLines recordSet references regex
repeated replace samplingRate sdVersion separator source subField transform unArchive value
"""

CONTEXT: Entity = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in TERMS.split()},
}
