"""The base of all stage configs, and marks for the fields that outputs do not depend on."""

from __future__ import annotations

from collections.abc import Set
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import to_jsonable_python

Precision = Literal["auto", "fp32", "bf16"]  # auto: bf16 on GPUs, fp32 on CPUs, where bf16 is slower

# A path that a user writes. Control characters would end up in scripts and logs.
PATH_PATTERN = r"^[^\x00-\x1f\x7f]+$"
PathText = Annotated[str, StringConstraints(pattern=PATH_PATTERN, max_length=1000)]

OPERATIONAL, FINAL, AS_BEFORE = "operational", "final", "as_before"


def operational() -> dict[str, Any]:
    """Mark of a field that outputs do not depend on, for `Field(json_schema_extra=...)`."""
    return {OPERATIONAL: True}


def final() -> dict[str, Any]:
    """Mark of a field that only `finish` depends on; units are not redone if it changes."""
    return {FINAL: True}


def as_before(value: Any) -> dict[str, Any]:
    """Mark of a field that was added later. At this value, the stage does what it did before the field existed.

    Fingerprints leave the field out at this value, so that older finished stages stay valid. Fields of models inside
    a config may have the mark too. Values are compared as JSON: a tuple as a list.
    """
    return {AS_BEFORE: to_jsonable_python(value)}


EmbeddingBatch = Annotated[
    int,
    Field(
        ge=1,
        description="Images embedded at once by each rank. More needs more memory and is faster on GPUs.",
        json_schema_extra=operational(),
    ),
]


class StageConfig(BaseModel):
    """Base of the stage configs: frozen, unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def fingerprint(self, *, of_unit: bool = False) -> dict[str, Any]:
        """The fields that outputs depend on, as JSON; `of_unit`: that the outputs of units depend on."""
        return _fields_of(self, left_out={OPERATIONAL, FINAL} if of_unit else {OPERATIONAL})


def _fields_of(model: BaseModel, *, left_out: Set[str]) -> dict[str, Any]:
    dumped = model.model_dump(mode="json")
    for name, info in type(model).model_fields.items():
        marks = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        added_later = AS_BEFORE in marks and dumped[name] == marks[AS_BEFORE]
        if added_later or left_out & marks.keys():
            del dumped[name]
        else:
            dumped[name] = _value_of(getattr(model, name), dumped[name])
    return dumped


def _value_of(value: Any, dumped: Any) -> Any:
    """The dumped value, without fields that were added later to models inside it.

    Operational fields of such models stay: fingerprints of finished studies hold `verification.batch`.
    """
    if isinstance(value, BaseModel):
        return _fields_of(value, left_out=frozenset())
    if isinstance(value, dict):
        return {key: _value_of(value[key], inner) for key, inner in dumped.items()}
    if isinstance(value, tuple):
        return [_value_of(one, inner) for one, inner in zip(value, dumped, strict=True)]
    return dumped
