"""Croissant metadata of a published set, which search engines and data set loaders read."""

from __future__ import annotations

from typing import Any

from shards.exports.facts import Facts
from shards.tars.manifest import Manifest


def croissant(facts: Facts) -> dict[str, Any]:
    """Croissant 1.0 (docs.mlcommons.org/croissant) JSON-LD: the tars, and the records in them."""
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
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.name,
        "version": facts.version,
        "description": facts.summary,
        "license": facts.license,
        "url": facts.url,
        "creator": {"@type": "sc:Organization", "name": facts.creator},
        "datePublished": facts.date,
        "citeAs": f"{facts.creator}: {facts.name} {facts.version}, {facts.date[:4]}. {facts.citation}",
        "distribution": [
            *tars,
            _members("jpg", "*.jpg", "image/jpeg", facts.manifest),
            _members("json", "*.json", "application/json", facts.manifest),
        ],
        "recordSet": [
            _record_set("images", members="jpg", column="image", kind="sc:ImageObject"),
            _record_set("records", members="json", column="record", kind="sc:Text"),
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
citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset jsonPath
key md5 parentField path recordSet references regex repeated replace samplingRate separator source subField transform
"""

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in TERMS.split()},
}
