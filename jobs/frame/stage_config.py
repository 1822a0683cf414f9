"""The base of all stage configs, and marks for the fields that outputs do not depend on."""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError, to_jsonable_python

from slurm.names import why_not_a_name

Precision = Literal["auto", "fp32", "bf16"]  # auto: bf16 on GPUs, fp32 on CPUs, of which only some are faster in bf16

# A path that a user writes. Control characters would end up in scripts and logs.
PATH_PATTERN = r"^[^\x00-\x1f\x7f]+$"
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"  # of a text that is shown in one line
PathText = Annotated[str, StringConstraints(pattern=PATH_PATTERN, max_length=1000)]


def _own_name(name: str) -> str:
    allowed = why_not_a_name(name)
    if allowed is not None:
        raise PydanticCustomError("file_name", "{allowed}", {"allowed": allowed})
    return name


# For every name that a user chooses and that becomes a file or folder in the folder of a stage.
FILE_NAME = AfterValidator(_own_name)

CLOSED = (bool, int, float, NoneType)  # types that hold no text

OPERATIONAL, FINAL, AS_BEFORE, PUBLISHED = "operational", "final", "as_before", "published"


def operational() -> dict[str, Any]:
    """Mark of a field that outputs do not depend on, for `Field(json_schema_extra=...)`."""
    return {OPERATIONAL: True}


def final() -> dict[str, Any]:
    """Mark of a field that only `finish` depends on; units are not redone if it changes."""
    return {FINAL: True}


def published() -> dict[str, Any]:
    """Mark of a field with text of the user's that the card of a published set shows; see `public_fields`."""
    return {PUBLISHED: True}


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
        if name not in dumped:
            continue
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


def public_fields(section: StageConfig) -> dict[str, Any]:
    """The fields of a section that may be published, as JSON.

    A field is private unless its type can hold nothing but numbers, yes or no, and words that the suite defines
    (`Literal`), or it has the mark `published()`. Paths, names and texts of users are none of these.
    """
    return _public(section, section.fingerprint())


def _public(model: BaseModel, dumped: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value, marks = getattr(model, name), info.json_schema_extra
        if name not in dumped:
            continue
        if isinstance(value, BaseModel):
            found[name] = _public(value, dumped[name])
        elif isinstance(value, tuple) and value and all(isinstance(one, BaseModel) for one in value):
            found[name] = [_public(one, inner) for one, inner in zip(value, dumped[name], strict=True)]
        elif (isinstance(marks, dict) and PUBLISHED in marks) or _is_closed(info.annotation):
            found[name] = dumped[name]
    return found


def _is_closed(annotation: Any) -> bool:
    """Whether values of a type are numbers, booleans and words of a `Literal` alone, or tuples of such."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal or annotation in CLOSED:
        return True
    if origin is Annotated:
        return _is_closed(inner[0])
    return origin in (tuple, Union, UnionType) and all(one is Ellipsis or _is_closed(one) for one in inner)
