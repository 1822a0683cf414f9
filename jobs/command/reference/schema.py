"""JSON schemas of the experiment file and the cluster file: for editors, and what `explain` reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobs.frame.experiment_config import experiment_of
from jobs.frame.stage_config import AS_BEFORE, FINAL, OPERATIONAL, PUBLISHED
from slurm.cluster import Cluster

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

BASE: Schema = {
    "type": "string",
    "title": "Base",
    "description": (
        "Path of another config file, relative to this one, whose fields hold where this file gives none. Sections are "
        "merged field by field, lists are replaced, and null takes a section or an entry away."
    ),
}


def experiment_schema(method: str) -> Schema:
    """The schema of a method's experiment file, sections named as in the file, with `base`.

    Raises:
        ConfigError: there is no such method.
    """
    schema = experiment_of(method).model_json_schema()
    schema["properties"] = {"base": BASE, **schema["properties"]}
    schema |= {"title": f"Experiment file, method {method}", "description": "One section per stage that is to run."}
    return schema


def cluster_schema() -> Schema:
    """The schema of the cluster file."""
    return Cluster.model_json_schema() | {"title": "Cluster file"}


def for_editors(schema: Schema) -> Schema:
    """The schema as a document: draft 2020-12, without the suite's own marks, open to what a `base` allows.

    A file that has a base need not repeat required fields, and takes entries away by null. So nothing is required
    here; the command itself reports what is missing.
    """
    changed: Schema = _each_object(schema, _opened)
    return {"$schema": DIALECT, **changed}


def _each_object(node: Any, change: Callable[[Schema], Schema]) -> Any:
    """The schema with every subschema changed, from the inside out."""
    if isinstance(node, list):
        return [_each_object(each, change) for each in node]
    if not isinstance(node, dict):
        return node
    inner: Schema = {}
    for key, value in node.items():
        if key in {"properties", "patternProperties", "$defs"}:  # whose keys are names, not keywords
            inner[key] = {name: _each_object(each, change) for name, each in value.items()}
        else:
            inner[key] = value if key in {"default", AS_BEFORE} else _each_object(value, change)
    return change(inner)


def _opened(node: Schema) -> Schema:
    marks = {OPERATIONAL, FINAL, AS_BEFORE, PUBLISHED}
    left = {key: value for key, value in node.items() if key not in {*marks, "required"}}
    if "patternProperties" in left:
        entries = {pattern: _or_null(entry) for pattern, entry in left["patternProperties"].items()}
        left |= {"patternProperties": entries, "additionalProperties": False}
    elif isinstance(left.get("additionalProperties"), dict):
        left["additionalProperties"] = _or_null(left["additionalProperties"])
    return left


def _or_null(entry: Schema) -> Schema:
    return {"anyOf": [entry, {"type": "null"}]}
