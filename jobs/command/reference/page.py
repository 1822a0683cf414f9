"""The reference page of all config fields, as Markdown: `cemiface explain --markdown` writes docs/config.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobs.command.reference.fields import (
    CLUSTER,
    NOT_RUN,
    NOTHING_STALE,
    OF_ITS_FIELDS,
    REQUIRED,
    UNITS_STAY,
    Entry,
    Reference,
)

HEAD = """# Config reference

<!-- Generated: cemiface explain --markdown > docs/config.md -->

`cemiface explain FIELD` prints the same at the command line, e.g. `cemiface explain generate.eta`.

An experiment file has one section per stage that is to run; `cemiface all FILE` runs them in order. Every field can be
overridden at the command line, e.g. `generate.steps=10`. A file may name another as its `base` and give only what
differs.

Editors that have a YAML language server complete and check fields if the first line of a file names the schema, by a
path relative to the file or a URL:

```yaml
# yaml-language-server: $schema=schema.json
```

`configs/schema.json` is that schema (`cemiface explain --schema`, for another method with `--method NAME`).

Changing a field makes finished work of its stage stale, so that it is done again, except for fields marked
**free**, which leave what comes out as it is, and **end**, which redo only the end of the stage.
"""

MARKS = {NOTHING_STALE: " **free**", UNITS_STAY: " **end**"}


def config_page(fields: Reference) -> str:
    """The page: top of the file, a heading per section, the groups of fields that sections share, the cluster file."""
    tops = fields.top()
    sections = [entry for entry in tops if entry.group and entry.path != CLUSTER]
    parts = [HEAD, "## Top of the file\n", _table([entry for entry in tops if not entry.group]), "## Sections\n"]
    for section in sections:
        parts += [f"### {section.path}\n", f"{section.description}\n"]
        own = _own(fields, section)
        parts.append(_table(own) if own else "It has no fields; write `{}`.\n")
    parts += ["## Groups of fields\n", "Fields that stand together under one name, in one section or several.\n"]
    for group, entries in _groups(fields, sections).items():
        places = ", ".join(f"`{entry.path}`" for entry in entries)
        parts += [f"### {group}\n", f"Under {places}.\n", _table(_own(fields, entries[0]))]
    site = fields.entries[CLUSTER]
    parts += ["## Cluster file\n", f"{site.description} It never changes what comes out.\n"]
    for entry in [site, *(each for each in _own(fields, site) if each.group)]:
        if entry is not site:
            parts += [f"### {entry.path}\n", f"{entry.description}\n"]
        parts.append(_table(_own(fields, entry)))
    return "\n".join(parts)


def _own(fields: Reference, entry: Entry) -> list[Entry]:
    """The fields directly below one; a place in a list or a name in between does not count."""
    inside = fields.inside(entry)
    depth = min((each.path.count(".") for each in inside), default=0)
    return [each for each in inside if each.path.count(".") == depth]


def _groups(fields: Reference, sections: Sequence[Entry]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in (each for section in sections for each in fields.inside(section) if each.group):
        groups.setdefault(entry.group, []).append(entry)
    return groups


def _table(entries: Sequence[Entry]) -> str:
    return "\n".join(["| field | type | default | what it is |", "|---|---|---|---|", *_rows(entries), ""])


def _rows(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        kind = f"{entry.type}, {entry.allowed}" if entry.allowed else entry.type
        if entry.group and "." in entry.path and not entry.path.startswith(f"{CLUSTER}."):
            kind = f"{kind}: [{entry.group}](#{entry.group.lower()})"
        plain = entry.default in {REQUIRED, NOT_RUN, OF_ITS_FIELDS}
        default = entry.default if plain else f"`{entry.default}`"
        cells = [f"`{entry.name}`", kind, default, entry.description + MARKS.get(entry.effect, "")]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
