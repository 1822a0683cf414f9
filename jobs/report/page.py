"""The report's page: what is in which order, and how numbers look. A function of the run folder alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from jobs.frame.method import load
from jobs.frame.products import SHARD
from jobs.frame.run import Run
from jobs.report.audit import audit
from jobs.report.chain import chain, costs, provenance, rejected
from jobs.report.faces import faces
from jobs.report.measured import scores, training, verification
from jobs.report.part import Part, Sets, summary
from jobs.report.published import published
from jobs.report.sets import benchmarks, set_metrics, worth

PAGE, RESULTS = "index.html", "results.md"

TEMPLATES = {PAGE: "report.html.j2", RESULTS: "results.md.j2"}

COARSE_PIXELS = 72  # smaller faces are enlarged, and shown with their pixels

MINUS = "\N{MINUS SIGN}"

SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit

# The page in its order. A new part is one line here, a function, and a template `report_<name>.html.j2`.
PARTS = (
    Part(name="chain", title="The chain", build=chain),
    Part(name="faces", title="Faces", build=faces),
    Part(name="training", title="Training", build=training),
    Part(name="verification", title="Verification", build=verification),
    Part(name="scores", title="Mated and non-mated scores", build=scores),
    Part(name="benchmarks", title="Benchmarks", build=benchmarks),
    Part(name="set_metrics", title="The sets as a whole", build=set_metrics),
    Part(name="worth", title="What the sets are worth", build=worth),
    Part(name="published", title="Beside other systems", build=published),
    Part(name="audit", title="Audit", build=audit),
    Part(name="costs", title="Costs", build=costs),
    Part(name="rejected", title="Rejected inputs", build=rejected),
    Part(name="provenance", title="Provenance", build=provenance),
)


def parts_of(run: Run) -> list[Part]:
    """The page in its order: the shared parts, each followed by those of the method that say so."""
    own: tuple[Part, ...] = load(run.method.report_parts)
    return [each for part in PARTS for each in (part, *(added for added in own if added.after == part.name))]


def render(run: Run, *, title: str) -> dict[str, bytes]:
    """The whole page, and its figures as Markdown, by file name, UTF-8.

    The stages' outputs are read, never their inputs: the folder can be moved anywhere.
    """
    parts = parts_of(run)
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in dict.fromkeys(part.package for part in parts)]),
        autoescape=select_autoescape(enabled_extensions=("html.j2", "css.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "decimal": decimal,
        "points": points,
        "duration": duration,
        "size": size,
    }
    sets = Sets.of(run)
    values = {part.name: found for part in parts if (found := part.build(run, sets)) is not None}
    shown = [
        {
            "name": part.name,
            "title": part.title,
            "html": Markup(environment.get_template(f"report_{part.name}.html.j2").render(values[part.name])),  # noqa: S704 (escaped inside)
        }
        for part in parts
        if part.name in values
    ]
    opening = head(run)
    named = {"title": title, "name": run.config.name, "seed": run.seed}
    page = environment.get_template(TEMPLATES[PAGE]).render(
        named,
        head=opening,
        sets=sets,
        coarse=0 < int(opening["size"]) < COARSE_PIXELS,
        parts=shown,
        verification=values.get("verification"),
        audit=values.get("audit"),
    )
    results = environment.get_template(TEMPLATES[RESULTS]).render(
        named | {part.name: values.get(part.name) for part in (*PARTS, *parts)}
    )
    return {PAGE: page.encode(), RESULTS: results.replace(SPACE, " ").encode()}


def head(run: Run) -> dict[str, Any]:
    """What the opening sentences and the tiles are made of: summaries and what follows from them."""
    sharded = summary(run, SHARD)
    section: dict[str, Any] = sharded.fingerprint[SHARD] if sharded else {"faces": "", "image_size": 0}
    trainings = [summary(run, name) for name in run.method.own_stages if run.stages[name].distributed]
    return {
        "trained": [training for training in trainings if training],
        "generate": summary(run, run.method.generate.name),
        "publish": summary(run, "publish"),
        "faces": Path(section["faces"]).name,
        "size": section["image_size"],
    }


def number(value: int) -> str:
    return f"{value:,}"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}{SPACE}%"


def decimal(value: float, digits: int = 2) -> str:
    """A plain number; infinite and undefined ones in words."""
    return f"{value:,.{digits}f}".replace("-", MINUS) if math.isfinite(value) else "not defined"


def points(value: float) -> str:
    """A difference in percentage points, with its sign."""
    return f"{value:+.1f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, with as many digits as matter."""
    if seconds < 10:
        return f"{seconds:.2g}{SPACE}s"
    if seconds < 120:
        return f"{seconds:.0f}{SPACE}s"
    return f"{seconds / 60:.1f}{SPACE}min" if seconds < 7200 else f"{seconds / 3600:.1f}{SPACE}h"


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f}{SPACE}{unit}" if unit == "bytes" else f"{count:.1f}{SPACE}{unit}"
        count /= 1000
    return f"{count:.1f}{SPACE}TB"
