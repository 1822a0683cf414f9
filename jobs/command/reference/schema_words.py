"""The type and the range of a value in plain words, from its JSON schema."""

from __future__ import annotations

import json
from typing import Any

from jobs.frame.stage_config import PATH_PATTERN

NAMES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
MANY = {"whole number": "whole numbers", "number": "numbers", "text": "texts", "path": "paths", "section": "sections"}


def type_of(node: dict[str, Any]) -> str:
    """The type, e.g. "whole number or null", "list of numbers", "one of a, b"."""
    if "$ref" in node:
        return "section"
    if "anyOf" in node:
        return " or ".join(type_of(each) for each in node["anyOf"])
    if "const" in node or "enum" in node:
        values = [value_text(value) for value in node.get("enum", [node.get("const")])]
        return f"one of {', '.join(values)}" if len(values) > 1 else values[0]
    if node.get("type") == "array":
        return _list_type(node)
    if node.get("type") == "object":
        return f"{_many(_entry_of(node))} by name" if _entry_of(node) else "fields by name"
    return "path" if node.get("pattern") == PATH_PATTERN else NAMES[node["type"]]


def _list_type(node: dict[str, Any]) -> str:
    fixed = node.get("prefixItems")
    return f"list of {len(fixed)} {_many(fixed[0])}" if fixed else f"list of {_many(node.get('items', {}))}"


def _many(node: dict[str, Any]) -> str:
    one = type_of(node) if node else "values"
    return MANY.get(one, f"({one})" if " or " in one else one)


def _entry_of(node: dict[str, Any]) -> dict[str, Any]:
    """The schema of the values of a mapping; empty where anything is allowed."""
    entries = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    entry: dict[str, Any] = entries[0] if isinstance(entries[0], dict) else {}
    return entry if entry.keys() - {"additionalProperties", "type"} else {}


def allowed_in(node: dict[str, Any]) -> str:
    """The range in words, e.g. "0 to below 1"; empty if the type is enough."""
    if "anyOf" in node:
        return next(filter(None, map(allowed_in, node["anyOf"])), "")
    if node.get("type") in {"integer", "number"}:
        return _range(node)
    if node.get("type") == "array":
        count = _count(node) if "prefixItems" not in node else ""
        items = allowed_in(next(iter(node.get("prefixItems", [])), node.get("items", {})))
        return ", ".join(filter(None, [count, f"each {items}" if items else ""]))
    if node.get("type") == "object":
        items = allowed_in(_entry_of(node))
        return f"each {items}" if items else ""
    return ""


def _count(node: dict[str, Any]) -> str:
    low, high = node.get("minItems"), node.get("maxItems")
    if low is not None and low == high:
        return f"exactly {low}"
    return f"{low} or more" if low else ""


def _range(node: dict[str, Any]) -> str:
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    if node["type"] == "integer" and above is not None:
        low, above = above + 1, None
    if below is not None and below > 2**62:  # of seeds: as many as there are
        below = None
    start = f"above {above:,}" if above is not None else f"{low:,}" if low is not None else ""
    end = f"below {below:,}" if below is not None else f"{high:,}" if high is not None else ""
    if start and end:
        return f"{start} to {end}"
    if not start:
        return end and (end if below is not None else f"at most {end}")
    return start if above is not None else f"{start} or more"


def value_text(value: Any) -> str:
    """A value as a config file has it."""
    return value if isinstance(value, str) and value.isprintable() and value.strip() else json.dumps(value)
