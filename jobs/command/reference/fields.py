"""What every field of a config file is, by its dotted path: type, range, default, description, and what it changes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.command.reference.schema import Schema, cluster_schema, experiment_schema
from jobs.command.reference.schema_words import allowed_in, type_of, value_text
from jobs.frame.errors import ConfigError
from jobs.frame.methods import find_method
from jobs.frame.stage_config import FINAL, OPERATIONAL

CLUSTER = "cluster"  # first part of the paths of the cluster file's fields

# Instead of a default. A stage without a section is not run.
REQUIRED, NOT_RUN, OF_ITS_FIELDS = "required", "absent", "that of its fields"

# What a changed field means for finished work.
STALE = "Changing it makes finished work of the stage stale."
UNITS_STAY = "Changing it redoes only the end of the stage; finished units stay valid."
NOTHING_STALE = "Changing it changes no output; finished work stays valid."


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A field of a config file, or a section of it.

    Attributes:
        path: dotted, as an override names it; N stands for a place in a list, NAME for a name of the user's own.
        allowed: range; empty if the type is enough.
        effect: what a change means for finished work; empty if the description has it.
        group: name of the model whose fields it has; empty for a single value.
    """

    path: str
    type: str
    allowed: str
    default: str
    description: str
    effect: str
    group: str

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """All fields of a method's experiment file and of the cluster file, by path, in the files' order."""

    entries: Mapping[str, Entry]

    def find(self, path: str) -> Entry:
        """The field of this path; places in lists and names of the user's own may be left out or filled in.

        Raises:
            ConfigError: there is none; names those nearest to it.
        """
        for entry in self.entries.values():
            if re.fullmatch(_pattern(entry.path), path):
                return entry
        near = self.near(path)
        hint = f"did you mean {' or '.join(near)}?" if near else "allowed: those that `cemiface explain` lists"
        raise ConfigError(f"{path}: unknown field; {hint}")

    def near(self, path: str) -> list[str]:
        """Up to three fields that may have been meant: of the same last name, else of a similar one."""
        same = [entry.path for entry in self.entries.values() if entry.name == path.rpartition(".")[2]]
        similar = difflib.get_close_matches(path, self.entries, n=3)
        if "." in path:
            return list(dict.fromkeys([*similar, *same]))[:3]
        names = difflib.get_close_matches(path, {entry.name for entry in self.entries.values()}, n=1)
        elsewhere = [entry.path for entry in self.entries.values() if entry.name in names]
        return list(dict.fromkeys([*same, *similar, *elsewhere]))[:3]

    def inside(self, entry: Entry) -> list[Entry]:
        """The fields below one, at any depth."""
        return [each for path, each in self.entries.items() if path.startswith(f"{entry.path}.")]

    def top(self) -> list[Entry]:
        """What stands at the top of the experiment file, sections included; last the cluster file."""
        return [entry for path, entry in self.entries.items() if "." not in path]


def reference(method: str) -> Reference:
    """The fields of a method's experiment file, and below "cluster" those of the cluster file.

    Raises:
        ConfigError: there is no such method.
    """
    experiment, cluster = experiment_schema(method), cluster_schema()
    site = Entry(
        path=CLUSTER,
        type="file",
        allowed="",
        default="configs/cluster/local.yaml",
        description="The cluster file, given by --cluster: where ranks run and what each may use.",
        effect=NOTHING_STALE,
        group="Cluster",
    )
    stages = frozenset(find_method(method).chain)
    fields = [*_walk(experiment, defs=experiment["$defs"], stages=stages), site]
    fields += _walk(cluster, defs=cluster["$defs"], stages=frozenset(), above=f"{CLUSTER}.")
    return Reference(entries={entry.path: entry for entry in fields})


def _walk(node: Schema, *, defs: Schema, stages: frozenset[str], above: str = "") -> Iterator[Entry]:
    for name, field in node["properties"].items():
        group, place = _group_of(field)
        is_stage = not above and name in stages
        default = REQUIRED if name in node.get("required", []) else _default(field, fields=defs.get(group))
        yield Entry(
            path=above + name,
            type="section" if is_stage else type_of(field),
            allowed=allowed_in(field),
            default=NOT_RUN if is_stage else default,
            description=field["description"],
            effect=_effect(field, section=above.removesuffix("."), stages=stages),
            group=group,
        )
        if group:
            yield from _walk(defs[group], defs=defs, stages=stages, above=f"{above}{name}{place}.")


def _group_of(field: Schema) -> tuple[str, str]:
    """The model that a field's value, or each value in it, has the fields of; and what its path has in between."""
    entries = [*field.get("patternProperties", {}).values(), field.get("additionalProperties")]
    places = [("", field), *(("", each) for each in field.get("anyOf", []))]
    places += [(".N", field.get("items")), *((".NAME", each) for each in entries)]
    for place, node in places:
        if isinstance(node, dict) and "$ref" in node:
            return node["$ref"].rpartition("/")[2], place
    return "", ""


def _default(field: Schema, *, fields: Schema | None) -> str:
    value: Any = field.get("default")
    if fields is None or not isinstance(value, dict):
        return value_text(value)
    own = {name: each.get("default") for name, each in fields["properties"].items()}
    changed = {name: each for name, each in value.items() if each != own.get(name)}
    return value_text(changed) if changed else OF_ITS_FIELDS


def _effect(field: Schema, *, section: str, stages: frozenset[str]) -> str:
    """What a change does. Marks count at the top of a section; below it, every field is part of the results."""
    if section.partition(".")[0] not in stages:
        return ""
    if section in stages and OPERATIONAL in field:
        return NOTHING_STALE
    return UNITS_STAY if section in stages and FINAL in field else STALE


def _pattern(path: str) -> str:
    parts = [r"(\.[^.]+)?" if part in {"N", "NAME"} else re.escape(f".{part}") for part in path.split(".")]
    return "".join(parts).removeprefix(r"\.")
