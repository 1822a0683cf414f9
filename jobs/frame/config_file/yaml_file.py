"""A safe and strict subset of YAML: scalars of YAML 1.2, no duplicate keys, no aliases, no tags."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from jobs.frame.errors import ConfigError
from shards.errors import DataError
from shards.small_files import read_whole

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_VALUES = 10_000  # keys, values, lists and sections; a second of the parser's time
MAX_SHOWN = 60  # characters of what a message quotes


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: `1e-4` is a number; `no`, `12:00:00` and `0644` are text."""

    depth = 0
    values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # its stubs leave it out
        line = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{line}: aliases are not allowed; write the value out")
        if event.tag is not None:
            raise ConfigError(f"{line}: got the tag {event.tag!r}, tags are not allowed; write the plain value")
        self.depth += 1
        self.values += 1
        if self.values > MAX_VALUES:
            raise ConfigError(f"{line}: more than {MAX_VALUES} values; this is not a config file")
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"{line}: nested more than {MAX_DEPTH} levels deep; this is not a config file")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"line {key.start_mark.line + 1}: a key must be a plain word")
            if key.value in seen:
                raise ConfigError(f"line {key.start_mark.line + 1}: {key.value[:MAX_SHOWN]}: given twice; remove one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def finite(self, node: yaml.ScalarNode) -> float:
        value = float(node.value)
        if math.isinf(value):
            raise ConfigError(
                f"line {node.start_mark.line + 1}: got {node.value[:20]}, allowed: a number up to 1.8e308"
            )
        return value


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|", "~n\0"),
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,99})", "-+0123456789"),
    ("float", r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _starts = [character.replace("\0", "") for character in _first]  # "" stands for an empty value
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _starts)

_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.finite)


def parse_yaml(text: str, *, source: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: not YAML, or it has something that is not allowed, or more than `MAX_VALUES` values; names
            `source` and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{source}: got the character #x{error.character:02x}, not allowed; remove it") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        reasons = [getattr(error, "context", None), getattr(error, "problem", None)]
        raise ConfigError(f"{source}:{where} not YAML: {', '.join(filter(None, reasons))}") from None
    except (ValueError, ArithmeticError, LookupError) as error:  # of a character, a version or a tag that cannot be
        raise ConfigError(f"{source}: not YAML: {str(error)[:MAX_SHOWN]}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: no such file, too large, not UTF-8, not a mapping, or anything that `parse_yaml` refuses.
    """
    try:
        data = read_whole(path, limit=MAX_BYTES)
    except (OSError, DataError) as error:
        reason = str(error).partition(";")[0] if isinstance(error, DataError) else f"{path}: {error.strerror}"
        raise ConfigError(f"{reason}; give the path of a config file") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    value = parse_yaml(text, source=str(path))
    if not isinstance(value, dict):
        got = "nothing" if value is None else type(value).__name__
        raise ConfigError(f"{path}: got {got} at the top, allowed: a mapping of fields; see configs/demo.yaml")
    return value
