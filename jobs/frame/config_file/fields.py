"""The fields that a config file, the files it is based on, and overrides on the command line give together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.frame.config_file.yaml_file import MAX_SHOWN, parse_yaml, read_yaml
from jobs.frame.errors import ConfigError

MAX_BASES = 20  # files that are based on each other


def read_fields(config: Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a config file, not yet checked against a model.

    Fields of the file win over those of the file that its `base:` names, and `key=value` overrides win over both.

    Raises:
        ConfigError: a file cannot be read, files are based on each other, or an override has no value or no place.
    """
    fields = _with_base(config)
    for field, value in _parsed(overrides).items():
        _set(fields, field, value)
    return fields


def _with_base(config: Path, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of the file over those of its base, whose path is relative to the file.

    `above` are the files that are based on this one.
    """
    if config.absolute() in above:
        raise ConfigError(f"{config}: base: names a file that is based on it; allowed: another one")
    fields = read_yaml(config)
    base = fields.pop("base", None)
    if base is None:
        return fields
    if not isinstance(base, str) or not base.isprintable():
        raise ConfigError(f"{config}: base: got {repr(base)[:MAX_SHOWN]}, allowed: the path of a config file")
    if len(above) == MAX_BASES:
        raise ConfigError(f"{config}: base: more than {MAX_BASES} files in a row; put their fields into one")
    return _merged(_with_base(config.parent / base, above=(*above, config.absolute())), fields)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge sections field by field; null removes a section; anything else, lists too, is replaced."""
    merged = dict(under)
    for name, value in over.items():
        below = under.get(name)
        if isinstance(below, dict) and value is None:
            del merged[name]
        else:
            merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _parsed(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of `key=value` texts by dotted field."""
    parsed: dict[str, Any] = {}
    for text in overrides:
        field, equals, value = text.partition("=")
        if not equals or not field:
            raise ConfigError(f"{text!r}: got no field=value; write for example generate.steps=10")
        if field in parsed:
            raise ConfigError(f"{field}: overridden twice on the command line; give it once")
        parsed[field] = parse_yaml(value, source=field)
    return parsed


def _set(fields: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one field; missing sections on the way to it are added."""
    *parents, last = dotted.split(".")
    for parent in parents:
        if fields.get(parent) is None:
            fields[parent] = {}
        fields = fields[parent]
        if not isinstance(fields, dict):
            raise ConfigError(f"{dotted}: {parent} is not a section; override {parent} as a whole")
    fields[last] = value
