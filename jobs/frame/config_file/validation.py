"""Check fields against a model, and report what is wrong in one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.frame.errors import ConfigError

MAX_SHOWN = 60  # characters of a refused value

ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(model: type[ModelT], fields: dict[str, Any], *, source: str) -> ModelT:
    """The model with these fields, which come from `source`.

    Raises:
        ConfigError: a field is unknown, missing, of the wrong type or out of range; the first one is reported.
    """
    try:
        # Through JSON in strict mode: lists may become tuples, whole numbers floats, and nothing else is converted.
        return model.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigError(f"{source}: {_one_line(first, model)}{more}") from None


def _one_line(error: ErrorDetails, model: type[BaseModel]) -> str:
    """The field, what was got, what is allowed, and what to do."""
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _names_at(model, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"allowed: {', '.join(known)}"
        return f"{field}: unknown field; {hint}"
    if error["type"] == "missing":
        return f"{field}: is missing; add it"
    if error["type"] == "value_error":  # a rule about several fields; its message has the rest
        return f"{field}.{error['msg'].removeprefix('Value error, ')}; change it in the file"
    allowed = error["msg"].removeprefix("Input should be ")
    got = repr(error["input"])
    got = got if len(got) <= MAX_SHOWN else f"{got[:MAX_SHOWN]}..."
    # Overrides name fields, but no entries of lists.
    settable = ".".join(str(part) for part in takewhile(lambda part: isinstance(part, str), error["loc"]))
    return f"{field}: got {got}, allowed: {allowed}; change it in the file or with {settable}=..."


def _names_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The fields that the section at this path accepts."""
    schema = model.model_json_schema(by_alias=True)
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
