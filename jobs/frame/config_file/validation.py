"""Check fields against a model, and report what is wrong in one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.frame.config_file.allowed import allowed_by
from jobs.frame.errors import ConfigError

MAX_SHOWN = 60  # characters of a refused value

ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(model: type[ModelT], fields: dict[str, Any], *, source: str, overrides: bool = False) -> ModelT:
    """The model with these fields, which come from `source`.

    Args:
        overrides: whether fields can be overridden on the command line, which messages then suggest.

    Raises:
        ConfigError: a field is unknown, missing, of the wrong type or out of range; the first one is reported.
    """
    try:
        # Through JSON in strict mode: lists may become tuples, whole numbers floats, and nothing else is converted.
        return model.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigError(f"{source}: {_one_line(first, model, overrides=overrides)}{more}") from None


def is_text(model: type[BaseModel], field: str) -> bool:
    """Whether a dotted field of the model takes text, perhaps one of several words, and nothing else but null."""
    schema = _schema(model)
    node: Any = schema
    for part in field.split("."):
        inner = _resolved(node, schema)
        named = (inner.get("properties") or {}).get(part)
        node = named or inner.get("additionalProperties") or next(iter(inner.get("patternProperties", {}).values()), {})
    kinds = [one.get("type") for one in (node.get("anyOf") or [node])] if isinstance(node, dict) else []
    return "string" in kinds and all(kind in ("string", "null") for kind in kinds)


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def _one_line(error: ErrorDetails, model: type[BaseModel], *, overrides: bool) -> str:
    """The field, what was got, what is allowed, and what to do."""
    places = [part for part in error["loc"] if part != "[key]"]  # pydantic's mark of the name of an entry itself
    field = ".".join(map(str, places))
    if error["type"] == "extra_forbidden":
        known = _names_at(model, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"allowed: {', '.join(known)}"
        return f"{field}: unknown field; {hint}"
    if error["type"] == "missing":
        return f"{field}: is missing; add it"
    if error["type"] == "value_error":  # a rule about several fields; its message has the rest
        message = f"{error['msg'].removeprefix('Value error, ')}; change it in the file"
        return f"{field}.{message}" if field else message
    allowed = allowed_by(error)
    got = repr(error["input"])
    got = got if len(got) <= MAX_SHOWN else f"{got[:MAX_SHOWN]}..."
    if not overrides or len(places) < len(error["loc"]):
        return f"{field}: got {got}, allowed: {allowed}; change it in the file"
    # Overrides name fields, but no entries of lists.
    settable = ".".join(str(part) for part in takewhile(lambda part: isinstance(part, str), places))
    return f"{field}: got {got}, allowed: {allowed}; change it in the file or with {settable}=..."


def _names_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The fields that the section at this path accepts."""
    schema = _schema(model)
    node = _resolved(schema, schema)
    for part in path:
        inner = (node.get("properties") or {}).get(part) or node.get("items") or node.get("additionalProperties") or {}
        node = _resolved(inner, schema)
    return sorted(node.get("properties") or [])


def _resolved(node: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a node refers to; of alternatives the first, as the others are null."""
    while isinstance(node, dict) and ("$ref" in node or "anyOf" in node or "allOf" in node):
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        else:
            node = next(iter(node.get("anyOf") or node["allOf"]))
    return node if isinstance(node, dict) else {}
