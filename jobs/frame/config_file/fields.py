"""The fields that a config file, the files it is based on, and overrides on the command line give together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.frame.config_file.yaml_file import MAX_SHOWN, parse_yaml, read_yaml
from jobs.frame.errors import ConfigError

MAX_BASES = 20  # files that are based on each other


def read_fields(config: Path) -> dict[str, Any]:
    """The fields of a config file, not yet checked against a model; they win over those of the file's `base:`.

    Raises:
        ConfigError: a file cannot be read, or files are based on each other.
    """
    return _with_base(config)


def split_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """The texts of `key=value` overrides by dotted field.

    Raises:
        ConfigError: an override has no value, or a field is overridden twice.
    """
    texts: dict[str, str] = {}
    for override in overrides:
        field, equals, text = override.partition("=")
        if not equals or not field:
            raise ConfigError(f"{override!r}: got no field=value; write for example generate.steps=10")
        if field in texts:
            raise ConfigError(f"{field}: overridden twice on the command line; give it once")
        texts[field] = text
    return texts


def override_fields(fields: dict[str, Any], texts: Mapping[str, str], *, is_text: Callable[[str], bool]) -> None:
    """Set fields to the values of overrides, which win over everything in files.

    Args:
        is_text: whether a dotted field takes text; see `override_value`.

    Raises:
        ConfigError: an override has no place, or its value is not YAML.
    """
    for field, text in texts.items():
        _set(fields, field, override_value(text, field=field, is_text=is_text(field)))


def override_value(text: str, *, field: str, is_text: bool) -> Any:
    """The value of an override: YAML; in a field that takes text, the text as it is.

    Text may still be quoted as in YAML, and nothing or `null` stand for no value.

    Raises:
        ConfigError: it is not YAML; text that is not UTF-8.
    """
    if not is_text or text in ("", "null"):
        return parse_yaml(text, source=field)
    if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]:
        with suppress(ConfigError):
            quoted = parse_yaml(text, source=field)
            if isinstance(quoted, str):
                return quoted
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{field}: got {ascii(text)[:MAX_SHOWN]}, allowed: UTF-8 text; rename it") from None
    return text


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
